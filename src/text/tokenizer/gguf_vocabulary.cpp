#include "text/tokenizer/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "io/gguf.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_piece.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581, sentencepiece's space

/// Limit on tokens considered as merges: every split is looked up. No sentencepiece model exceeds
/// it.
constexpr size_t kMaxMergedBytes = 512;

/// Builds a Pipeline. Stages that tokenizer.json can express are built from their JSON form.
class PipelineBuilder {
 public:
  PipelineBuilder(const GgufVocabulary& vocabulary, const std::string& where)
      : gguf_(vocabulary), where_(where) {
    tokens_.reserve(gguf_.tokens.size());
    for (const std::string_view token : gguf_.tokens) {
      std::string valid;
      text::unicode::append_replacing_invalid(valid, token);
      tokens_.push_back(std::move(valid));
    }
  }

  Pipeline build() {
    if (gguf_.model == "gpt2")
      build_gpt2();
    else if (gguf_.model == "llama")
      build_llama();
    else if (gguf_.model == "bert")
      build_bert();
    else if (gguf_.model == "t5")
      build_t5();
    else
      fail("model", fmt::format("'{}' is not supported; expected gpt2, llama, bert or t5",
                                escape_for_terminal(gguf_.model)));
    set_added_tokens();
    return std::move(pipeline_);
  }

 private:
  using Type = GgufVocabulary::TokenType;

  [[noreturn]] void fail(std::string_view key, const std::string& problem) const {
    throw Error(fmt::format("{}: tokenizer.ggml.{}", where_, key), problem);
  }

  static json::object component(std::string_view type, json::object fields = {}) {
    fields["type"] = type;
    return fields;
  }
  static json::object replace(std::string_view from, std::string_view to) {
    return component("Replace", {{"pattern", json::object{{"String", from}}}, {"content", to}});
  }
  void set_normalizer(json::array normalizers) {
    const json::value all = component("Sequence", {{"normalizers", std::move(normalizers)}});
    pipeline_.normalizer = Normalizer::from_json({all, where_});
  }
  void set_decoder(json::array decoders) {
    const json::value all = component("Sequence", {{"decoders", std::move(decoders)}});
    pipeline_.decoders = decoders_from_json({all, where_});
  }

  /// All tokens by id.
  Vocabulary vocabulary() const {
    if (tokens_.size() > kMaxTokenId)
      fail("tokens", fmt::format("has more than {} tokens", kMaxTokenId));
    const size_t bytes =
        std::accumulate(tokens_.begin(), tokens_.end(), size_t{0},
                        [](size_t sum, const std::string& token) { return sum + token.size(); });
    Vocabulary all(tokens_.size(), bytes);
    for (size_t id = 0; id < tokens_.size(); ++id)
      all.add(tokens_[id], static_cast<text::TokenId>(id));
    return all;
  }

  std::optional<std::string> unknown_token() const {
    if (gguf_.unknown) return tokens_[*gguf_.unknown];
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (gguf_.type(id) == Type::kUnknown) return tokens_[id];
    }
    return std::nullopt;
  }

  void set_post_processor(std::optional<text::TokenId> before, std::optional<text::TokenId> after) {
    if (!before && !after) return;
    const auto list = [](std::optional<text::TokenId> id) {
      return id ? std::vector{*id} : std::vector<text::TokenId>{};
    };
    pipeline_.post_processors.emplace_back(list(before), list(after));
  }
  void add_bos_eos(bool add_bos, bool add_eos) {
    set_post_processor(gguf_.add_bos.value_or(add_bos) ? gguf_.bos : std::nullopt,
                       gguf_.add_eos.value_or(add_eos) ? gguf_.eos : std::nullopt);
  }

  void build_gpt2() {
    const GgufPreTokenizer* pre =
        find_gguf_pre_tokenizer(gguf_.pre.empty() ? "default" : gguf_.pre);
    if (!pre)
      fail("pre", fmt::format("unknown pre-tokenizer '{}'", escape_for_terminal(gguf_.pre)));
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
    MergeTable merges(gguf_.merges.size());
    uint32_t rank = 0;
    for (const std::string_view merge : gguf_.merges) {
      const size_t space = merge.find(' ', 1);
      const std::string_view left = merge.substr(0, space);
      const std::string_view right = space == std::string_view::npos ? "" : merge.substr(space + 1);
      const text::TokenId l = tokens.find(left), r = tokens.find(right);
      const text::TokenId merged = tokens.find(std::string(left).append(right));
      if (left.empty() || right.empty() || l == kNoToken || r == kNoToken || merged == kNoToken) {
        fail("merges",
             fmt::format("entry {} ('{}') is not two tokens whose concatenation is a token", rank,
                         escape_for_terminal(merge)));
      }
      merges.add(l, r, {rank++, merged});
    }
    pipeline_.model = std::make_unique<Bpe>(
        std::move(tokens), std::move(merges),
        Bpe::Options{.ignore_merges = pre->ignore_merges, .byte_level = true});
    add_bos_eos(pre->add_bos, false);
  }

  /// sentencepiece BPE: adjacent tokens merge if the result is a token, best score first.
  void build_llama() {
    const bool prefix = gguf_.add_space_prefix.value_or(true);
    json::array normalizers,
        decoders = {replace(kMetaspace, " "), component("ByteFallback"), component("Fuse")};
    if (prefix) normalizers.push_back(component("Prepend", {{"prepend", kMetaspace}}));
    normalizers.push_back(replace(" ", kMetaspace));
    if (prefix)
      decoders.push_back(component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}));
    set_normalizer(std::move(normalizers));
    set_decoder(std::move(decoders));

    Vocabulary tokens = vocabulary();
    MergeTable merges = merges_by_score(tokens);
    pipeline_.model =
        std::make_unique<Bpe>(std::move(tokens), std::move(merges),
                              Bpe::Options{.unk_token = unknown_token(), .byte_fallback = true});
    add_bos_eos(true, false);
  }

  MergeTable merges_by_score(const Vocabulary& tokens) const {
    require_scores();
    std::vector<float> scores(gguf_.scores);
    std::sort(scores.begin(), scores.end(), std::greater<>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    struct Found {
      text::TokenId left, right;
      Merge merge;
    };
    std::vector<Found> found;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const std::string_view token = tokens_[id];
      if (!is_text_token(id) || token.size() > kMaxMergedBytes) continue;
      const auto rank = static_cast<uint32_t>(
          std::lower_bound(scores.begin(), scores.end(), gguf_.scores[id], std::greater<>()) -
          scores.begin());
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if ((token[cut] & 0xC0) == 0x80) continue;
        const text::TokenId left = tokens.find(token.substr(0, cut)),
                            right = tokens.find(token.substr(cut));
        if (left == kNoToken || right == kNoToken || !is_text_token(left) || !is_text_token(right))
          continue;
        found.push_back({left, right, {rank, static_cast<text::TokenId>(id)}});
      }
    }
    MergeTable merges(found.size());
    for (const Found& merge : found) merges.add(merge.left, merge.right, merge.merge);
    return merges;
  }

  void require_scores() const {
    if (gguf_.scores.size() != gguf_.tokens.size()) fail("scores", "must have one score per token");
  }

  /// Whether text can produce the token.
  bool is_text_token(size_t id) const {
    return gguf_.type(id) == Type::kNormal || gguf_.type(id) == Type::kUserDefined;
  }

  /// WordPiece. The file marks tokens that start words with U+2581, instead of those that continue
  /// them.
  void build_bert() {
    const json::value normalizer = component("BertNormalizer", {{"clean_text", true},
                                                                {"handle_chinese_chars", true},
                                                                {"strip_accents", true},
                                                                {"lowercase", true}});
    const json::value pre_tokenizer = component("BertPreTokenizer");
    pipeline_.normalizer = Normalizer::from_json({normalizer, where_});
    pipeline_.pre_tokenizer = PreTokenizer::from_json({pre_tokenizer, where_});
    set_decoder({component("WordPiece", {{"prefix", "##"}, {"cleanup", true}})});
    for (size_t id = 0; id < tokens_.size(); ++id) {
      std::string& token = tokens_[id];
      const bool bracketed = token.starts_with('[') && token.ends_with(']');
      if (token.starts_with(kMetaspace))
        token.erase(0, kMetaspace.size());
      else if (is_text_token(id) && !bracketed)
        token = std::string("##").append(token);
    }
    pipeline_.model = std::make_unique<WordPiece>(
        vocabulary(), WordPiece::Options{.unk_token = unknown_token().value_or("[UNK]"),
                                         .continuing_subword_prefix = "##"});
    set_post_processor(gguf_.bos, gguf_.separator ? gguf_.separator : gguf_.eos);
  }

  /// sentencepiece Unigram.
  void build_t5() {
    require_scores();
    std::optional<Charsmap> map;
    if (!gguf_.charsmap.empty())
      map = Charsmap::from_bytes(gguf_.charsmap, where_ + ": tokenizer.ggml.precompiled_charsmap");
    pipeline_.normalizer = sentencepiece_normalizer(std::move(map), gguf_.remove_extra_whitespaces);
    const json::value pre_tokenizer =
        component("Metaspace",
                  {{"replacement", kMetaspace},
                   {"prepend_scheme", gguf_.add_space_prefix.value_or(true) ? "always" : "never"},
                   {"split", false}});
    pipeline_.pre_tokenizer = PreTokenizer::from_json({pre_tokenizer, where_});
    set_decoder({replace(kMetaspace, " "), component("ByteFallback"), component("Fuse"),
                 component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}})});

    std::vector<double> scores(gguf_.scores.begin(), gguf_.scores.end());
    // Tokens that text cannot produce must not match.
    std::vector<bool> is_matchable(scores.size());
    for (size_t id = 0; id < scores.size(); ++id) is_matchable[id] = is_text_token(id);
    const bool has_bytes = std::any_of(gguf_.types.begin(), gguf_.types.end(),
                                       [](int32_t type) { return type == Type::kByte; });
    const auto unknown = unknown_token();
    Vocabulary tokens = vocabulary();
    const std::optional<text::TokenId> unknown_id =
        unknown ? std::optional(tokens.find(*unknown)) : std::nullopt;
    pipeline_.model = std::make_unique<Unigram>(std::move(tokens), std::move(scores), is_matchable,
                                                unknown_id, has_bytes);
    add_bos_eos(false, true);
  }

  void set_added_tokens() {
    std::vector<AddedToken> added;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const bool control = gguf_.type(id) == Type::kControl;
      if (!control && gguf_.type(id) != Type::kUserDefined) continue;
      added.push_back({.content = tokens_[id], .special = control, .normalized = false});
    }
    const Vocabulary& tokens = pipeline_.model->vocabulary();
    pipeline_.added_tokens =
        std::make_unique<AddedTokens>(std::move(added), tokens, tokens.end_id(), nullptr);
  }

  const GgufVocabulary& gguf_;
  const std::string& where_;
  std::vector<std::string> tokens_;  ///< made valid UTF-8
  Pipeline pipeline_;
};

}  // namespace

GgufVocabulary GgufVocabulary::read(const io::GgufFile& file) {
  const io::GgufMetadata& metadata = file.metadata();
  const auto key = [](std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); };
  GgufVocabulary v;
  v.model = metadata.string(key("model"));
  v.pre = metadata.string_or(key("pre"), "");
  const auto list = [&](std::string_view name) {
    const io::GgufStrings strings = metadata.strings(key(name));
    return std::vector<std::string_view>(strings.begin(), strings.end());
  };
  v.tokens = list("tokens");
  if (v.tokens.empty()) metadata.fail(key("tokens"), "is empty");
  const auto same_length = [&](std::string_view name, size_t size) {
    if (size == v.tokens.size()) return;
    metadata.fail(key(name), fmt::format("has {} entries, expected {}", size, v.tokens.size()));
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
  if (const io::GgufValue* map = metadata.find(key("precompiled_charsmap"))) {
    if (!map->is_array || io::type_bytes(map->type) != 1)
      metadata.fail(key("precompiled_charsmap"), "must be an array of bytes");
    v.charsmap = {reinterpret_cast<const char*>(map->bytes.data()), map->bytes.size()};
  }
  const auto id = [&](std::string_view name) -> std::optional<text::TokenId> {
    if (!metadata.contains(key(name))) return std::nullopt;
    return static_cast<text::TokenId>(
        metadata.integer(key(name), 0, static_cast<int64_t>(v.tokens.size()) - 1));
  };
  v.bos = id("bos_token_id");
  v.eos = id("eos_token_id");
  v.unknown = id("unknown_token_id");
  v.separator = id("seperator_token_id");  // the format's spelling
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
  return PipelineBuilder(vocabulary, where).build();
}

}  // namespace mxgpt::tokenizer
