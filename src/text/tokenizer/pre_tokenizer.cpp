#include "text/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/escape.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/pre_token_splitter.h"
#include "text/tokenizer/unicode_properties.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {

SplitBehavior split_behavior_from_json(const json::Node& node) {
  const std::string_view name = node.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.fail(
      fmt::format("unknown behavior '{}'; expected Removed, Isolated, MergedWithPrevious, "
                  "MergedWithNext or Contiguous",
                  escape_for_terminal(name)));
}

namespace {

/// GPT-2 words, the default split of ByteLevel.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Pre-tokens of the Whitespace pre-tokenizer.
constexpr std::string_view kWordOrOther = "[" MXGPT_RUST_WORD "]+|[^" MXGPT_RUST_WORD "\\s]+";

/// Limits on nesting: each stage adds a stack frame, and each ByteLevel stage can double the text.
constexpr size_t kMaxStages = 64, kMaxByteLevelStages = 4;

PreToken subrange(const PreToken& pre_token, size_t begin, size_t end) {
  return {pre_token.text.substr(begin, end - begin), pre_token.at_start && begin == 0};
}

/// A splitter that emits the non-empty parts.
auto make_splitter(const PreToken& pre_token, SplitBehavior behavior, bool invert,
                   const PreTokenSink& emit) {
  const auto pass = [&pre_token, &emit](size_t begin, size_t end) {
    if (begin < end) emit(subrange(pre_token, begin, end));
  };
  return PreTokenSplitter(pre_token.text.size(), behavior, invert, pass);
}

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    auto splitter = make_splitter(pre_token, behavior_, invert_, emit);
    pattern_.for_each_match(pre_token.text,
                            [&](size_t begin, size_t end) { splitter.match(begin, end); });
    splitter.finish();
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool raw_bytes)
      : add_prefix_space_(add_prefix_space), raw_bytes_(raw_bytes) {
    if (use_regex)
      words_.emplace(Pattern::regex(kGpt2Words, "ByteLevel"), SplitBehavior::kIsolated, false);
  }

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    std::string with_space;
    PreToken spaced = pre_token;
    if (add_prefix_space_ && !pre_token.text.starts_with(' ')) {
      with_space.reserve(pre_token.text.size() + 1);
      with_space = ' ';
      with_space += pre_token.text;
      spaced.text = with_space;
    }
    std::string spelled;
    const auto pass = [&](const PreToken& word) {
      if (raw_bytes_) return emit(word);
      spelled.clear();
      ByteAlphabet::get().append_encoded(spelled, word.text);
      emit({spelled, word.at_start});
    };
    if (words_)
      words_->split(spaced, pass);
    else
      pass(spaced);
  }

 private:
  bool add_prefix_space_;
  bool raw_bytes_;
  std::optional<Split> words_;
};

class Metaspace final : public PreTokenizer {
 public:
  enum class Prepend { kFirst, kNever, kAlways };

  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend) {
    if (split)
      words_.emplace(Pattern::literal(replacement_), SplitBehavior::kMergedWithNext, false);
  }

  static std::unique_ptr<Metaspace> from_json(const json::Node& node) {
    const std::string_view replacement = node["replacement"].string();
    if (text::unicode::count_characters(replacement) != 1)
      node["replacement"].fail("must be one character");
    const std::string_view scheme = node.string_or("prepend_scheme", "always");
    Prepend prepend = Prepend::kAlways;
    if (scheme == "first")
      prepend = Prepend::kFirst;
    else if (scheme == "never")
      prepend = Prepend::kNever;
    else if (scheme != "always")
      node["prepend_scheme"].fail("must be first, never or always");
    // Older files use add_prefix_space instead of prepend_scheme.
    if (!node.boolean_or("add_prefix_space", true)) prepend = Prepend::kNever;
    return std::make_unique<Metaspace>(std::string(replacement), prepend,
                                       node.boolean_or("split", true));
  }

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    std::string replaced;
    replaced.reserve(pre_token.text.size() + pre_token.text.size() / 2 + replacement_.size());
    const bool starts = pre_token.text.starts_with(' ') || pre_token.text.starts_with(replacement_);
    if (!starts &&
        (prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && pre_token.at_start))) {
      replaced = replacement_;
    }
    for (const char c : pre_token.text) {
      if (c == ' ')
        replaced += replacement_;
      else
        replaced += c;
    }
    const PreToken whole = {replaced, pre_token.at_start};
    if (words_)
      words_->split(whole, emit);
    else
      emit(whole);
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  std::optional<Split> words_;
};

/// Splits at characters that satisfy a predicate.
class CharacterSplit final : public PreTokenizer {
 public:
  using Predicate = bool (*)(char32_t);
  CharacterSplit(Predicate is_match, SplitBehavior behavior)
      : is_match_(is_match), behavior_(behavior) {}

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    auto splitter = make_splitter(pre_token, behavior_, false, emit);
    for (size_t i = 0; i < pre_token.text.size();) {
      const size_t begin = i;
      if (is_match_(text::unicode::next(pre_token.text, i))) splitter.match(begin, i);
    }
    splitter.finish();
  }

 private:
  Predicate is_match_;
  SplitBehavior behavior_;
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(size_t characters) : characters_(characters) {}

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    for (size_t begin = 0; begin < pre_token.text.size();) {
      size_t end = begin;
      for (size_t n = 0; n < characters_ && end < pre_token.text.size(); ++n) {
        end += text::unicode::length_of(pre_token.text[end]);
      }
      emit(subrange(pre_token, begin, end));
      begin = end;
    }
  }

 private:
  size_t characters_;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> stages)
      : stages_(std::move(stages)) {}

  void split(const PreToken& pre_token, PreTokenSink emit) const override {
    run(0, pre_token, emit);
  }

 private:
  void run(size_t stage, const PreToken& pre_token, const PreTokenSink& emit) const {
    if (stage == stages_.size()) return emit(pre_token);
    if (stage + 1 == stages_.size()) return stages_[stage]->split(pre_token, emit);
    stages_[stage]->split(pre_token, [&](const PreToken& part) { run(stage + 1, part, emit); });
  }

  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

std::unique_ptr<PreTokenizer> split_at(CharacterSplit::Predicate predicate,
                                       SplitBehavior behavior) {
  return std::make_unique<CharacterSplit>(predicate, behavior);
}

struct StageCounts {
  size_t stages = 0, byte_level = 0;
};

std::unique_ptr<PreTokenizer> read(const json::Node& node, bool raw_bytes_at_end,
                                   StageCounts& count);

std::unique_ptr<PreTokenizer> read_sequence(const json::Node& list, bool raw_bytes_at_end,
                                            StageCounts& count) {
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  const size_t size = list.array().size();
  for (size_t i = 0; i < size; ++i) {
    auto part = read(list.at(i), raw_bytes_at_end && i + 1 == size, count);
    if (part) parts.push_back(std::move(part));
  }
  return std::make_unique<Sequence>(std::move(parts));
}

std::unique_ptr<PreTokenizer> read(const json::Node& node, bool raw_bytes_at_end,
                                   StageCounts& count) {
  if (++count.stages > kMaxStages)
    node.fail(fmt::format("the chain has more than {} pre-tokenizers", kMaxStages));
  const std::string_view type = node["type"].string();
  if (type == "Sequence") return read_sequence(node["pretokenizers"], raw_bytes_at_end, count);
  if (type == "Split") {
    return std::make_unique<Split>(Pattern::from_json(node["pattern"]),
                                   split_behavior_from_json(node["behavior"]),
                                   node["invert"].boolean());
  }
  if (type == "ByteLevel") {
    if (++count.byte_level > kMaxByteLevelStages)
      node.fail("the chain has too many ByteLevel pre-tokenizers");
    const bool add_prefix_space = node["add_prefix_space"].boolean(),
               use_regex = node.boolean_or("use_regex", true);
    if (raw_bytes_at_end && !add_prefix_space && !use_regex) return nullptr;
    return std::make_unique<ByteLevel>(add_prefix_space, use_regex, raw_bytes_at_end);
  }
  if (type == "Metaspace") return Metaspace::from_json(node);
  if (type == "Digits") {
    return split_at(is_numeric, node["individual_digits"].boolean() ? SplitBehavior::kIsolated
                                                                    : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    return split_at(is_punctuation,
                    behavior ? split_behavior_from_json(*behavior) : SplitBehavior::kIsolated);
  }
  if (type == "Whitespace") {
    return std::make_unique<Split>(Pattern::regex(kWordOrOther, "Whitespace"),
                                   SplitBehavior::kRemoved, true);
  }
  if (type == "WhitespaceSplit")
    return split_at(text::unicode::is_whitespace, SplitBehavior::kRemoved);
  if (type == "BertPreTokenizer") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    parts.push_back(split_at(text::unicode::is_whitespace, SplitBehavior::kRemoved));
    parts.push_back(split_at(is_punctuation, SplitBehavior::kIsolated));
    return std::make_unique<Sequence>(std::move(parts));
  }
  if (type == "CharDelimiterSplit") {
    const std::string_view delimiter = node["delimiter"].string();
    if (text::unicode::count_characters(delimiter) != 1)
      node["delimiter"].fail("must be one character");
    return std::make_unique<Split>(Pattern::literal(std::string(delimiter)),
                                   SplitBehavior::kRemoved, false);
  }
  if (type == "FixedLength") {
    return std::make_unique<FixedLength>(
        static_cast<size_t>(node.integer_or("length", 5, 1, INT32_MAX)));
  }
  node["type"].fail(
      fmt::format("the pre-tokenizer '{}' is not supported", escape_for_terminal(type)));
}

}  // namespace

std::unique_ptr<PreTokenizer> PreTokenizer::from_json(const json::Node& node) {
  StageCounts count;
  return read(node, false, count);
}

std::unique_ptr<PreTokenizer> pre_tokenizer_with_raw_bytes(const json::Node& node) {
  StageCounts count;
  return read(node, true, count);
}

bool ends_in_byte_level(const json::Node& node) {
  const std::string_view type = node["type"].string();
  if (type == "ByteLevel") return true;
  if (type != "Sequence") return false;
  const json::Node list = node["pretokenizers"];
  return !list.array().empty() && ends_in_byte_level(list.at(list.array().size() - 1));
}

}  // namespace mxgpt::tokenizer
