#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::cli {
namespace {

struct Settings {
  std::string tokenizer;
  std::vector<text::TokenId> ids;
  bool jsonl = false;
  bool skip_special = false;
};

/// A JSON string with escapes for non-ASCII characters that some readers treat as line ends.
std::string to_json_line(const std::string& text) {
  static constexpr std::pair<std::string_view, std::string_view> kLineEnds[] = {
      {"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};
  const std::string all = json::serialize(json::value(text));
  std::string line;
  for (std::string_view rest = all; !rest.empty();) {
    const auto* end = std::find_if(std::begin(kLineEnds), std::end(kLineEnds),
                                   [&](const auto& each) { return rest.starts_with(each.first); });
    const bool found = end != std::end(kLineEnds);
    line += found ? end->second : rest.substr(0, 1);
    rest.remove_prefix(found ? end->first.size() : 1);
  }
  return line;
}

/// Reads one array of ids per line; prints one JSON string per line.
void detokenize_lines(const text::Tokenizer& tokenizer, bool skip_special) {
  std::string line;
  std::vector<text::TokenId> ids;
  for (size_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string where = fmt::format("line {} of the input", number);
    const json::value document = json::parse(line, where);
    const json::Node list(document, where);
    ids.clear();
    for (const json::value& entry : list.array()) {
      ids.push_back(static_cast<text::TokenId>(json::Node(entry, where).integer(0, INT32_MAX)));
    }
    fmt::print("{}\n", to_json_line(tokenizer.decode(ids, skip_special)));
    std::fflush(stdout);
  }
}

}  // namespace

std::function<int()> detokenize(CommandOptions& command) {
  auto settings = std::make_shared<Settings>();
  command.positional_integers("ids", settings->ids, "Token ids (default: standard input)");
  declare_tokenizer(command, settings->tokenizer);
  command.flag("--jsonl", settings->jsonl,
               "Read one JSON array of ids per line, print one JSON string per line");
  command.flag("--skip-special", settings->skip_special, "Omit control tokens");
  return [settings] {
    const auto tokenizer = text::Tokenizer::load(settings->tokenizer);
    if (settings->jsonl) {
      detokenize_lines(*tokenizer, settings->skip_special);
      return kOk;
    }
    if (settings->ids.empty()) {
      for (text::TokenId id; std::cin >> id;) settings->ids.push_back(id);
      if (!std::cin.eof())
        throw Error("standard input", "must contain only token ids and white space");
    }
    fmt::print("{}\n", tokenizer->decode(settings->ids, settings->skip_special));
    return kOk;
  };
}

}  // namespace mxgpt::cli
