#include "text/tokenizer/post_processor.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/escape.h"
#include "text/tokenizer/vocabulary.h"

namespace mxgpt::tokenizer {
namespace {

// Limits on templates; real ones contain the text once.
constexpr size_t kMaxTemplateItems = 256, kMaxProcessors = 8, kMaxRepeats = 2;

text::TokenId id_from_json(const json::Node& node) {
  return static_cast<text::TokenId>(node.integer(0, kMaxTokenId));
}

/// ["[CLS]", 101]
text::TokenId pair_from_json(const json::Node& node) {
  if (node.array().size() != 2) node.fail("must be [\"token\", id]");
  return id_from_json(node.at(1));
}

void flatten(const json::Node& node, std::vector<json::Node>& processors) {
  if (node["type"].string() != "Sequence") {
    processors.push_back(node);
    return;
  }
  const json::Node list = node["processors"];
  for (size_t i = 0; i < list.array().size(); ++i) flatten(list.at(i), processors);
}

}  // namespace

PostProcessor::PostProcessor(std::vector<text::TokenId> before, std::vector<text::TokenId> after)
    : items_{{false, std::move(before)}, {true, {}}, {false, std::move(after)}} {}

std::vector<PostProcessor> PostProcessor::list_from_json(const json::Node& node) {
  std::vector<json::Node> nodes;
  flatten(node, nodes);
  std::vector<PostProcessor> processors;
  for (const json::Node& each : nodes) {
    const std::string_view type = each["type"].string();
    if (type == "ByteLevel") continue;  // adjusts token offsets, which are not tracked here
    if (processors.size() >= kMaxProcessors) {
      node.fail(fmt::format("the chain has more than {} post-processors", kMaxProcessors));
    }
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      processors.push_back({{pair_from_json(each["cls"])}, {pair_from_json(each["sep"])}});
    } else if (type == "TemplateProcessing") {
      processors.push_back(template_from_json(each));
    } else {
      each["type"].fail(
          fmt::format("the post-processor '{}' is not supported", escape_for_terminal(type)));
    }
  }
  return processors;
}

PostProcessor PostProcessor::template_from_json(const json::Node& node) {
  PostProcessor processor;
  const json::Node single = node["single"], special = node["special_tokens"];
  if (single.array().size() > kMaxTemplateItems)
    single.fail(fmt::format("has more than {} parts", kMaxTemplateItems));
  size_t texts = 0;
  for (size_t i = 0; i < single.array().size(); ++i) {
    const json::Node item = single.at(i);
    if (const auto text = item.find("Sequence")) {
      if ((*text)["id"].string() != "A")
        (*text)["id"].fail("a template for one text can contain only sequence A");
      if (++texts > kMaxRepeats)
        single.fail(fmt::format("contains the text more than {} times", kMaxRepeats));
      processor.items_.push_back({true, {}});
      continue;
    }
    const json::Node ids = special[item["SpecialToken"]["id"].string()]["ids"];
    if (ids.array().size() > kMaxTemplateItems)
      ids.fail(fmt::format("has more than {} ids", kMaxTemplateItems));
    TemplateItem special_item{false, {}};
    for (size_t k = 0; k < ids.array().size(); ++k)
      special_item.special_ids.push_back(id_from_json(ids.at(k)));
    processor.items_.push_back(std::move(special_item));
  }
  return processor;
}

std::vector<text::TokenId> PostProcessor::apply(std::vector<text::TokenId> ids,
                                                bool add_special) const {
  std::vector<text::TokenId> out;
  for (const TemplateItem& item : items_) {
    if (item.is_text)
      out.insert(out.end(), ids.begin(), ids.end());
    else if (add_special)
      out.insert(out.end(), item.special_ids.begin(), item.special_ids.end());
  }
  return out;
}

}  // namespace mxgpt::tokenizer
