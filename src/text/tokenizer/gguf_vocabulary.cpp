#include "text/tokenizer/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/printable.h"
#include "io/gguf.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_piece.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581, sentencepiece's blank

/// Every cut of a longer token would be looked up; no sentencepiece model has one.
constexpr size_t kMaxMergedBytes = 512;

/// Builds the parts of a Pipeline. The stages that tokenizer.json has too are described as it
/// describes them.
class Builder {
 public:
  Builder(const GgufVocabulary& vocabulary, const std::string& where)
      : given_(vocabulary), where_(where) {
    repaired_.reserve(given_.tokens.size());
    for (const std::string_view token : given_.tokens) {
      std::string valid;
      unicode::append_replacing_invalid(valid, token);
      repaired_.push_back(std::move(valid));
    }
  }

  Pipeline build() {
    if (given_.model == "gpt2")
      gpt2();
    else if (given_.model == "llama")
      llama();
    else if (given_.model == "bert")
      bert();
    else if (given_.model == "t5")
      t5();
    else
      fail("model", fmt::format("is '{}', none of gpt2, llama, bert, t5", printable(given_.model)));
    add_tokens();
    return std::move(pipeline_);
  }

 private:
  using Type = GgufVocabulary::TokenType;

  [[noreturn]] void fail(std::string_view key, const std::string& what) const {
    throw Error(fmt::format("{}: tokenizer.ggml.{}", where_, key), what);
  }

  static json::object component(std::string_view type, json::object fields = {}) {
    fields["type"] = type;
    return fields;
  }
  static json::object replace(std::string_view from, std::string_view to) {
    return component("Replace", {{"pattern", json::object{{"String", from}}}, {"content", to}});
  }
  void set_normalizer(json::array parts) {
    const json::value all = component("Sequence", {{"normalizers", std::move(parts)}});
    pipeline_.normalizer = Normalizer::from_json({all, where_});
  }
  void set_decoder(json::array parts) {
    const json::value all = component("Sequence", {{"decoders", std::move(parts)}});
    pipeline_.decoders = decoders_from_json({all, where_});
  }

  /// Token id with its spelling.
  Vocabulary vocabulary() const {
    if (repaired_.size() > kMaxTokenId)
      fail("tokens", fmt::format("has more than {} tokens", kMaxTokenId));
    const size_t bytes =
        std::accumulate(repaired_.begin(), repaired_.end(), size_t{0},
                        [](size_t sum, const std::string& token) { return sum + token.size(); });
    Vocabulary all(repaired_.size(), bytes);
    for (size_t id = 0; id < repaired_.size(); ++id)
      all.add(repaired_[id], static_cast<TokenId>(id));
    return all;
  }

  std::optional<std::string> unknown_token() const {
    if (given_.unknown) return repaired_[*given_.unknown];
    for (size_t id = 0; id < repaired_.size(); ++id) {
      if (given_.type(id) == Type::kUnknown) return repaired_[id];
    }
    return std::nullopt;
  }

  void frame(std::optional<TokenId> before, std::optional<TokenId> after) {
    if (!before && !after) return;
    const auto list = [](std::optional<TokenId> id) {
      return id ? std::vector{*id} : std::vector<TokenId>{};
    };
    pipeline_.post_processors.emplace_back(list(before), list(after));
  }
  void frame_by_flags(bool add_bos, bool add_eos) {
    frame(given_.add_bos.value_or(add_bos) ? given_.bos : std::nullopt,
          given_.add_eos.value_or(add_eos) ? given_.eos : std::nullopt);
  }

  void gpt2() {
    const GgufPreTokenizer* pre =
        find_gguf_pre_tokenizer(given_.pre.empty() ? "default" : given_.pre);
    if (!pre)
      fail("pre", fmt::format("names the unknown pre-tokenizer '{}'", printable(given_.pre)));
    json::array stages;
    for (const std::string_view split : pre->splits) {
      stages.push_back(component("Split", {{"pattern", json::object{{"Regex", split}}},
                                           {"behavior", "Isolated"},
                                           {"invert", false}}));
    }
    const json::value all = component("Sequence", {{"pretokenizers", std::move(stages)}});
    pipeline_.pre_tokenizer = PreTokenizer::from_json({all, where_});
    set_decoder({component("ByteLevel")});

    Vocabulary tokens = vocabulary();
    MergeTable merges(given_.merges.size());
    uint32_t rank = 0;
    for (const std::string_view merge : given_.merges) {
      const size_t blank = merge.find(' ', 1);
      const std::string_view left = merge.substr(0, blank);
      const std::string_view right = blank == std::string_view::npos ? "" : merge.substr(blank + 1);
      const TokenId l = tokens.find(left), r = tokens.find(right);
      const TokenId merged = tokens.find(std::string(left).append(right));
      if (left.empty() || right.empty() || l == kNoToken || r == kNoToken || merged == kNoToken) {
        fail("merges", fmt::format("entry {} ('{}') is not two tokens that make a third", rank,
                                   printable(merge)));
      }
      merges.add(l, r, {rank++, merged});
    }
    pipeline_.model = std::make_unique<Bpe>(
        std::move(tokens), std::move(merges),
        Bpe::Options{.ignore_merges = pre->ignore_merges, .byte_level = true});
    frame_by_flags(pre->add_bos, false);
  }

  /// BPE of sentencepiece: two neighbours merge if that gives a token, the ones with the best score
  /// first.
  void llama() {
    const bool prefix = given_.add_space_prefix.value_or(true);
    json::array rewriting,
        spelling_back = {replace(kBlank, " "), component("ByteFallback"), component("Fuse")};
    if (prefix) rewriting.push_back(component("Prepend", {{"prepend", kBlank}}));
    rewriting.push_back(replace(" ", kBlank));
    if (prefix)
      spelling_back.push_back(component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}));
    set_normalizer(std::move(rewriting));
    set_decoder(std::move(spelling_back));

    Vocabulary tokens = vocabulary();
    MergeTable merges = merges_by_score(tokens);
    pipeline_.model =
        std::make_unique<Bpe>(std::move(tokens), std::move(merges),
                              Bpe::Options{.unknown = unknown_token(), .byte_fallback = true});
    frame_by_flags(true, false);
  }

  MergeTable merges_by_score(const Vocabulary& tokens) const {
    require_scores();
    std::vector<float> scores(given_.scores);
    std::sort(scores.begin(), scores.end(), std::greater<>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    struct Found {
      TokenId left, right;
      Merge merge;
    };
    std::vector<Found> found;
    for (size_t id = 0; id < repaired_.size(); ++id) {
      const std::string_view token = repaired_[id];
      if (!is_ordinary(id) || token.size() > kMaxMergedBytes) continue;
      const auto rank = static_cast<uint32_t>(
          std::lower_bound(scores.begin(), scores.end(), given_.scores[id], std::greater<>()) -
          scores.begin());
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if ((token[cut] & 0xC0) == 0x80) continue;
        const TokenId left = tokens.find(token.substr(0, cut)),
                      right = tokens.find(token.substr(cut));
        if (left == kNoToken || right == kNoToken || !is_ordinary(left) || !is_ordinary(right))
          continue;
        found.push_back({left, right, {rank, static_cast<TokenId>(id)}});
      }
    }
    MergeTable merges(found.size());
    for (const Found& each : found) merges.add(each.left, each.right, each.merge);
    return merges;
  }

  void require_scores() const {
    if (given_.scores.size() != given_.tokens.size())
      fail("scores", "should have a score for each token");
  }

  /// Whether text can spell the token.
  bool is_ordinary(size_t id) const {
    return given_.type(id) == Type::kNormal || given_.type(id) == Type::kUserDefined;
  }

  /// WordPiece, but the file marks the tokens that start words, with U+2581, instead of those that
  /// continue them.
  void bert() {
    const json::value normalizer = component("BertNormalizer", {{"clean_text", true},
                                                                {"handle_chinese_chars", true},
                                                                {"strip_accents", true},
                                                                {"lowercase", true}});
    const json::value pre_tokenizer = component("BertPreTokenizer");
    pipeline_.normalizer = Normalizer::from_json({normalizer, where_});
    pipeline_.pre_tokenizer = PreTokenizer::from_json({pre_tokenizer, where_});
    set_decoder({component("WordPiece", {{"prefix", "##"}, {"cleanup", true}})});
    for (size_t id = 0; id < repaired_.size(); ++id) {
      std::string& token = repaired_[id];
      const bool bracketed = token.starts_with('[') && token.ends_with(']');
      if (token.starts_with(kBlank))
        token.erase(0, kBlank.size());
      else if (is_ordinary(id) && !bracketed)
        token = std::string("##").append(token);
    }
    pipeline_.model = std::make_unique<WordPiece>(
        vocabulary(), WordPiece::Options{.unknown = unknown_token().value_or("[UNK]"),
                                         .continuing_prefix = "##"});
    frame(given_.bos, given_.separator ? given_.separator : given_.eos);
  }

  /// Unigram of sentencepiece.
  void t5() {
    require_scores();
    std::optional<Charsmap> map;
    if (!given_.charsmap.empty())
      map = Charsmap::from_bytes(given_.charsmap, where_ + ": tokenizer.ggml.precompiled_charsmap");
    pipeline_.normalizer =
        sentencepiece_normalizer(std::move(map), given_.remove_extra_whitespaces);
    const json::value pre_tokenizer =
        component("Metaspace",
                  {{"replacement", kBlank},
                   {"prepend_scheme", given_.add_space_prefix.value_or(true) ? "always" : "never"},
                   {"split", false}});
    pipeline_.pre_tokenizer = PreTokenizer::from_json({pre_tokenizer, where_});
    set_decoder({replace(kBlank, " "), component("ByteFallback"), component("Fuse"),
                 component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}})});

    std::vector<double> scores(given_.scores.begin(), given_.scores.end());
    // What text cannot spell must not be found in it.
    std::vector<bool> spelled(scores.size());
    for (size_t id = 0; id < scores.size(); ++id) spelled[id] = is_ordinary(id);
    const bool has_bytes = std::any_of(given_.types.begin(), given_.types.end(),
                                       [](int32_t type) { return type == Type::kByte; });
    const auto unknown = unknown_token();
    Vocabulary tokens = vocabulary();
    const std::optional<TokenId> unknown_id =
        unknown ? std::optional(tokens.find(*unknown)) : std::nullopt;
    pipeline_.model = std::make_unique<Unigram>(std::move(tokens), std::move(scores), spelled,
                                                unknown_id, has_bytes);
    frame_by_flags(false, true);
  }

  void add_tokens() {
    std::vector<AddedToken> added;
    for (size_t id = 0; id < repaired_.size(); ++id) {
      const bool control = given_.type(id) == Type::kControl;
      if (!control && given_.type(id) != Type::kUserDefined) continue;
      added.push_back({.content = repaired_[id], .special = control, .normalized = false});
    }
    const Vocabulary& tokens = pipeline_.model->vocabulary();
    pipeline_.added =
        std::make_unique<AddedTokens>(std::move(added), tokens, tokens.end_id(), nullptr);
  }

  const GgufVocabulary& given_;
  const std::string& where_;
  std::vector<std::string> repaired_;  ///< the tokens as valid UTF-8
  Pipeline pipeline_;
};

}  // namespace

GgufVocabulary GgufVocabulary::read(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  const auto key = [](std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); };
  GgufVocabulary v;
  v.model = metadata.string(key("model"));
  v.pre = metadata.string_or(key("pre"), "");
  const auto list = [&](std::string_view name) {
    const GgufStrings strings = metadata.strings(key(name));
    return std::vector<std::string_view>(strings.begin(), strings.end());
  };
  v.tokens = list("tokens");
  if (v.tokens.empty()) metadata.fail(key("tokens"), "is empty");
  const auto same_length = [&](std::string_view name, size_t size) {
    if (size == v.tokens.size()) return;
    metadata.fail(key(name), fmt::format("has {} entries for {} tokens", size, v.tokens.size()));
  };
  if (metadata.contains(key("scores"))) {
    v.scores = metadata.numbers(key("scores"));
    same_length("scores", v.scores.size());
  }
  if (metadata.contains(key("token_type"))) {
    v.types = metadata.integers(key("token_type"), 0, 255);
    same_length("token_type", v.types.size());
  }
  if (metadata.contains(key("merges"))) v.merges = list("merges");
  if (const GgufValue* map = metadata.find(key("precompiled_charsmap"))) {
    if (!map->is_array || type_bytes(map->type) != 1)
      metadata.fail(key("precompiled_charsmap"), "should be an array of bytes");
    v.charsmap = {reinterpret_cast<const char*>(map->bytes.data()), map->bytes.size()};
  }
  const auto id = [&](std::string_view name) -> std::optional<TokenId> {
    if (!metadata.contains(key(name))) return std::nullopt;
    return static_cast<TokenId>(
        metadata.integer(key(name), 0, static_cast<int64_t>(v.tokens.size()) - 1));
  };
  v.bos = id("bos_token_id");
  v.eos = id("eos_token_id");
  v.unknown = id("unknown_token_id");
  v.separator = id("seperator_token_id");  // so spelled in the format
  const auto flag = [&](std::string_view name) -> std::optional<bool> {
    if (!metadata.contains(key(name))) return std::nullopt;
    return metadata.boolean(key(name));
  };
  v.add_bos = flag("add_bos_token");
  v.add_eos = flag("add_eos_token");
  v.add_space_prefix = flag("add_space_prefix");
  v.remove_extra_whitespaces = flag("remove_extra_whitespaces").value_or(false);
  return v;
}

Pipeline pipeline_from_gguf(const GgufVocabulary& vocabulary, const std::string& where) {
  return Builder(vocabulary, where).build();
}

}  // namespace mxgpt::tokenizer
