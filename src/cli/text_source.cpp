#include "cli/text_source.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode.h"

namespace mxgpt::cli {

namespace {

std::vector<std::string> read_jsonl(std::string_view content, const std::string& path) {
  std::vector<std::string> texts;
  for (size_t number = 1; !content.empty(); ++number) {
    const size_t end = std::min(content.find('\n'), content.size());
    const std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const std::string where = fmt::format("{}: line {}", path, number);
    const json::value document = json::parse(line, where);
    texts.emplace_back(json::Node(document, where + ":")["text"].string());
  }
  return texts;
}

}  // namespace

std::vector<std::vector<int32_t>> read_ids(const std::filesystem::path& path) {
  const json::value document = json::parse_file(path);
  std::vector<std::vector<int32_t>> sequences;
  const json::Node root(document, path.string() + ":");
  for (size_t i = 0; i < root.array().size(); ++i) {
    const json::Node sequence = root.at(i);
    if (sequence.array().empty()) sequence.fail("is empty; a sequence needs at least one token");
    auto& ids = sequences.emplace_back();
    for (size_t j = 0; j < sequence.array().size(); ++j) {
      ids.push_back(static_cast<int32_t>(sequence.at(j).integer(0, INT32_MAX)));
    }
  }
  if (sequences.empty()) root.fail("has no sequences");
  return sequences;
}

void TextSource::declare(CommandOptions& command) {
  const Option text_option = command.path(
      "--text", text, "UTF-8 text, or .jsonl with one {\"text\": …} document per line");
  command.path("--ids", ids, "JSON file: an array of arrays of token ids").excludes(text_option);
}

void declare_chunking(CommandOptions& command, int64_t& chunk, int64_t& max_tokens) {
  command
      .integer("--chunk", chunk, 2, int64_t{1} << 20,
               "Tokens per chunk; capped at the model's context")
      .default_text(fmt::format("{}", chunk));
  command.integer("--max-tokens", max_tokens, 1, int64_t{1} << 40,
                  "Score at most this many tokens, in chunks spread over the text (default: all)");
}

TokenizedText TextSource::read(const std::filesystem::path& tokenizer_path) const {
  if (!is_set())
    throw Error("text", "is missing", "choose a file with --text, or token ids with --ids");
  if (!ids.empty()) return {.documents = read_ids(ids), .bos = {}};
  const MappedFile file(text);
  const std::string_view content(reinterpret_cast<const char*>(file.bytes().data()),
                                 file.bytes().size());
  if (!text::unicode::is_valid(content)) throw Error(text.string(), "is not UTF-8 text");
  const std::vector<std::string> texts = text.extension() == ".jsonl"
                                             ? read_jsonl(content, text.string())
                                             : std::vector<std::string>{std::string(content)};
  const auto tokenizer = text::Tokenizer::load(tokenizer_path);
  TokenizedText result;
  // Special tokens around an empty text, such as [CLS] [SEP] or <s>: the first precedes every text.
  if (const auto wrapped_empty = tokenizer->encode("", {.add_special_tokens = true});
      !wrapped_empty.empty()) {
    result.bos = wrapped_empty.front();
  }
  size_t tokens = 0;
  for (const std::string& document : texts) {
    result.documents.push_back(tokenizer->encode(document, {.parse_special = false}));
    tokens += result.documents.back().size();
  }
  if (tokens < 2) {
    throw Error(text.string(), fmt::format("has {} tokens; at least two are needed", tokens),
                "choose a file with more text");
  }
  return result;
}

}  // namespace mxgpt::cli
