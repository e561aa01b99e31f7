// Post-processors put special tokens around the ids of a text.
#pragma once

#include <memory>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

/// A template of one text: ids before it, between its repetitions, and behind it. (Pairs of texts
/// are not used.)
class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(std::vector<text::TokenId> before, std::vector<text::TokenId> after);

  /// Reads the `post_processor` of a tokenizer.json; a Sequence becomes several, to be applied in
  /// order.
  static std::vector<PostProcessor> list_from_json(const json::Node& node);

  /// `ids` framed by the template; its special tokens are left out unless asked for.
  std::vector<text::TokenId> apply(std::vector<text::TokenId> ids, bool add_special) const;

 private:
  static PostProcessor template_from_json(const json::Node& node);

  struct TemplateItem {
    bool is_text;
    std::vector<text::TokenId> special_ids;
  };
  std::vector<TemplateItem> items_;
};

}  // namespace mxgpt::tokenizer
