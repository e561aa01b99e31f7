#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "base/json.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode.h"

namespace mxgpt::cli {
namespace {

struct Settings {
  std::string tokenizer;
  std::string text;
  bool jsonl = false;
  bool add_special = false;
  bool plain = false;
};

/// Reads one JSON string per line; prints one array of ids per line.
void tokenize_lines(const text::Tokenizer& tokenizer, const text::EncodeOptions& options) {
  std::string line, valid;
  for (size_t number = 1; std::getline(std::cin, line); ++number) {
    valid.clear();
    text::unicode::append_replacing_invalid(valid, line);
    const std::string where = fmt::format("line {} of the input", number);
    const json::value document = json::parse(valid, where);
    const auto ids = tokenizer.encode(json::Node(document, where).string(), options);
    fmt::print("[{}]\n", fmt::join(ids, ","));
    std::fflush(stdout);
  }
}

/// Prints a table of ids and tokens.
void tokenize_text(const text::Tokenizer& tokenizer, std::string_view text,
                   const text::EncodeOptions& options) {
  const auto ids = tokenizer.encode(text, options);
  for (const text::TokenId id : ids) fmt::print("{:>8}  {}\n", id, tokenizer.id_to_token(id));
  fmt::print("{} tokens\n", ids.size());
}

}  // namespace

std::function<int()> tokenize(CommandOptions& command) {
  auto settings = std::make_shared<Settings>();
  command.text("text", settings->text, "Text to tokenize (default: standard input)");
  declare_tokenizer(command, settings->tokenizer);
  command.flag("--jsonl", settings->jsonl,
               "Read one JSON string per line, print one array of ids per line");
  command.flag("--add-special", settings->add_special, "Add the model's special tokens (BOS, …)");
  command.flag("--no-parse-special|--plain", settings->plain,
               "Treat control tokens in the text as plain text");
  return [settings] {
    const auto tokenizer = text::Tokenizer::load(settings->tokenizer);
    const text::EncodeOptions options{.add_special_tokens = settings->add_special,
                                      .parse_special = !settings->plain};
    if (settings->jsonl) {
      tokenize_lines(*tokenizer, options);
    } else if (!settings->text.empty()) {
      tokenize_text(*tokenizer, settings->text, options);
    } else {
      const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
      tokenize_text(*tokenizer, text, options);
    }
    return kOk;
  };
}

}  // namespace mxgpt::cli
