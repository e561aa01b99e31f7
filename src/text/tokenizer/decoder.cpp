#include "text/tokenizer/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/pattern.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

constexpr size_t kMaxStages = 64;

/// Limit on the output of one replacement, so that a chain of them cannot exhaust memory.
constexpr size_t kMaxReplacedBytes = 64 << 20;

/// Joins the chunks of each token and calls process() with whole tokens.
class WholeTokenStage : public DecoderStage {
 public:
  explicit WholeTokenStage(DecoderStage& next) : next_(next) {}

  void put(std::string_view chunk, bool ends_token) final {
    if (ends_token && pending_.empty()) return process(chunk);
    pending_ += chunk;
    if (!ends_token) return;
    const std::string whole = std::exchange(pending_, {});
    process(whole);
  }

  void finish() final {
    flush();
    next_.finish();
  }

 protected:
  virtual void process(std::string_view token) = 0;
  virtual void flush() {}
  DecoderStage& next_;

 private:
  std::string pending_;
};

/// A decoder whose stage takes settings as its second constructor argument.
template <class Run, class Settings>
class DecoderWithSettings final : public Decoder {
 public:
  explicit DecoderWithSettings(Settings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<DecoderStage> make_stage(DecoderStage& next) const override {
    return std::make_unique<Run>(next, settings_);
  }

 private:
  Settings settings_;
};

struct NoSettings {};

/// Joins the bytes that the tokens encode. A token with a character outside the alphabet is copied
/// as is.
class ByteLevelStage final : public DecoderStage {
 public:
  ByteLevelStage(DecoderStage& next, NoSettings) : next_(next) {}

  void put(std::string_view chunk, bool ends_token) override {
    if (ends_token && token_.empty()) return decode_token(chunk);
    token_ += chunk;
    if (ends_token) decode_token(std::exchange(token_, {}));
  }

  void finish() override {
    text_.clear();
    text::unicode::append_replacing_invalid(text_, bytes_);
    next_.put(text_, true);
    next_.finish();
  }

 private:
  void decode_token(std::string_view token) {
    const size_t before = bytes_.size();
    for (size_t i = 0; i < token.size();) {
      const auto byte = ByteAlphabet::get().decode(text::unicode::next(token, i));
      if (!byte) {
        bytes_.resize(before);
        bytes_ += token;
        break;
      }
      bytes_ += static_cast<char>(*byte);
    }
    text_.clear();
    bytes_.erase(0, text::unicode::append_replacing_invalid(text_, bytes_, true));
    if (!text_.empty()) next_.put(text_, false);
  }

  DecoderStage& next_;
  std::string token_, bytes_, text_;
};

/// Converts runs of <0xNN> tokens to characters. In a run that is not valid UTF-8 each token
/// becomes U+FFFD, so a run is emitted only after its end.
class ByteFallbackStage final : public WholeTokenStage {
 public:
  ByteFallbackStage(DecoderStage& next, NoSettings) : WholeTokenStage(next) {}

 private:
  void process(std::string_view token) override {
    if (const auto byte = byte_of(token)) {
      bytes_ += *byte;
    } else {
      flush();
      next_.put(token, true);
    }
  }

  void flush() override {
    if (bytes_.empty()) return;
    if (text::unicode::is_valid(bytes_)) {
      next_.put(bytes_, true);
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i)
        next_.put(text::unicode::kReplacementCharacter, true);
    }
    bytes_.clear();
  }

  static std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    int value = 0;
    // Rust's from_str_radix, used by the reference, accepts a leading sign.
    for (const char c : token.substr(token[3] == '+' ? 4 : 3, token[3] == '+' ? 1 : 2)) {
      if (c >= '0' && c <= '9')
        value = value * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        value = value * 16 + ((c | 32) - 'a' + 10);
      else
        return std::nullopt;
    }
    return static_cast<char>(value);
  }

  std::string bytes_;
};

/// Joins all tokens into one.
class FuseStage final : public DecoderStage {
 public:
  FuseStage(DecoderStage& next, NoSettings) : next_(next) {}
  void put(std::string_view chunk, bool) override {
    if (!chunk.empty()) next_.put(chunk, false);
  }
  void finish() override {
    next_.put({}, true);
    next_.finish();
  }

 private:
  DecoderStage& next_;
};

struct StripSettings {
  std::string content;  ///< a single character
  size_t start, stop;   ///< maximum number to strip at each end
};

class StripStage final : public DecoderStage {
 public:
  StripStage(DecoderStage& next, const StripSettings& settings)
      : next_(next), settings_(settings) {}

  void put(std::string_view chunk, bool ends_token) override {
    const std::string& content = settings_.content;
    while (stripped_ < settings_.start && chunk.starts_with(content)) {
      chunk.remove_prefix(content.size());
      ++stripped_;
    }
    if (!chunk.empty()) stripped_ = settings_.start;
    // Hold back trailing content: it is stripped if nothing follows.
    size_t end = chunk.size();
    while (end >= content.size() && chunk.substr(0, end).ends_with(content)) end -= content.size();
    if (end > 0) release(0);
    out_ += chunk.substr(0, end);
    pending_ += (chunk.size() - end) / content.size();
    if (pending_ > settings_.stop) release(settings_.stop);
    if (ends_token) {
      pending_ = stripped_ = 0;
    }
    if (!out_.empty() || ends_token) next_.put(std::exchange(out_, {}), ends_token);
  }

  void finish() override { next_.finish(); }

 private:
  void release(size_t keep) {
    for (; pending_ > keep; --pending_) out_ += settings_.content;
  }

  DecoderStage& next_;
  const StripSettings& settings_;
  size_t stripped_ = 0, pending_ = 0;
  std::string out_;
};

struct ReplaceSettings {
  Pattern pattern;
  std::string content;
};

class ReplaceStage final : public DecoderStage {
 public:
  ReplaceStage(DecoderStage& next, const ReplaceSettings& settings)
      : next_(next), settings_(settings) {}

  void put(std::string_view chunk, bool ends_token) override {
    text_ += chunk;
    // A string is matched as chunks arrive; a regular expression needs the whole token.
    const std::string* literal = settings_.pattern.literal();
    if (!ends_token && !literal) return;
    std::string out;
    size_t consumed = 0;
    settings_.pattern.for_each_match(text_, [&](size_t begin, size_t end) {
      out.append(text_, consumed, begin - consumed);
      out += settings_.content;
      if (out.size() > kMaxReplacedBytes)
        throw Error("tokenizer", "the decoders expand the text beyond the limit");
      consumed = end;
    });
    size_t certain = text_.size();
    if (!ends_token) {
      certain = std::max(consumed, certain - std::min(certain, literal->size() - 1));
      while (certain > consumed && (text_[certain] & 0xC0) == 0x80) --certain;
    }
    out.append(text_, consumed, certain - consumed);
    text_.erase(0, certain);
    if (!out.empty() || ends_token) next_.put(out, ends_token);
  }

  void finish() override { next_.finish(); }

 private:
  DecoderStage& next_;
  const ReplaceSettings& settings_;
  std::string text_;
};

struct MetaspaceSettings {
  std::string replacement;
  bool prepends;  ///< replacements in the first token are not spaces of the text
};

class MetaspaceStage final : public WholeTokenStage {
 public:
  MetaspaceStage(DecoderStage& next, const MetaspaceSettings& settings)
      : WholeTokenStage(next), settings_(settings) {}

 private:
  void process(std::string_view token) override {
    std::string out;
    for (size_t i = 0; i < token.size();) {
      if (token.substr(i).starts_with(settings_.replacement)) {
        if (!first_ || !settings_.prepends) out += ' ';
        i += settings_.replacement.size();
      } else {
        out += token[i++];
      }
    }
    first_ = false;
    next_.put(out, true);
  }

  const MetaspaceSettings& settings_;
  bool first_ = true;
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t consumed = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, consumed)) {
    out.append(text, consumed, at - consumed);
    out += to;
    consumed = at + from.size();
  }
  if (consumed == 0) return;
  out.append(text, consumed);
  text = std::move(out);
}

/// Removes spaces before punctuation and contractions, as left by splitting English text.
void clean_up(std::string& text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

struct WordPieceSettings {
  std::string prefix;
  bool cleanup;
};

class WordPieceStage final : public WholeTokenStage {
 public:
  WordPieceStage(DecoderStage& next, const WordPieceSettings& settings)
      : WholeTokenStage(next), settings_(settings) {}

 private:
  void process(std::string_view token) override {
    std::string out;
    if (first_)
      out = token;
    else if (token.starts_with(settings_.prefix))
      out = token.substr(settings_.prefix.size());
    else
      out.append(1, ' ').append(token);
    first_ = false;
    if (settings_.cleanup) clean_up(out);
    next_.put(out, true);
  }

  const WordPieceSettings& settings_;
  bool first_ = true;
};

/// The end-of-word suffix becomes a space, or nothing after the last token.
class BpeStage final : public WholeTokenStage {
 public:
  BpeStage(DecoderStage& next, const std::string& suffix)
      : WholeTokenStage(next), suffix_(suffix) {}

 private:
  void process(std::string_view token) override {
    if (pending_) emit(" ");
    pending_ = token;
  }
  void flush() override {
    if (pending_) emit("");
  }
  void emit(std::string_view replacement) {
    if (!suffix_.empty()) replace_all(*pending_, suffix_, replacement);
    next_.put(*pending_, true);
  }

  const std::string& suffix_;
  std::optional<std::string> pending_;
};

struct CtcSettings {
  std::string pad, word_delimiter;
  bool cleanup;
};

class CtcStage final : public WholeTokenStage {
 public:
  CtcStage(DecoderStage& next, const CtcSettings& settings)
      : WholeTokenStage(next), settings_(settings) {}

 private:
  void process(std::string_view token) override {
    if (previous_ && *previous_ == token) return;
    previous_ = token;
    std::string out(token);
    if (!settings_.pad.empty()) replace_all(out, settings_.pad, "");
    if (settings_.cleanup) {
      clean_up(out);
      if (!settings_.word_delimiter.empty()) replace_all(out, settings_.word_delimiter, " ");
    }
    if (!out.empty()) next_.put(out, true);
  }

  const CtcSettings& settings_;
  std::optional<std::string> previous_;
};

class SpaceJoiningStage final : public WholeTokenStage {
 public:
  SpaceJoiningStage(DecoderStage& next, NoSettings) : WholeTokenStage(next) {}

 private:
  void process(std::string_view token) override {
    if (!first_) next_.put(" ", true);
    first_ = false;
    next_.put(token, true);
  }
  bool first_ = true;
};

class StringSink final : public DecoderStage {
 public:
  explicit StringSink(std::string& out) : out_(out) {}
  void put(std::string_view chunk, bool) override { out_ += chunk; }
  void finish() override {}

 private:
  std::string& out_;
};

template <class Run, class Settings>
std::unique_ptr<Decoder> make_decoder(Settings settings) {
  return std::make_unique<DecoderWithSettings<Run, Settings>>(std::move(settings));
}

std::string one_character(const json::Node& node) {
  if (text::unicode::count_characters(node.string()) != 1) node.fail("must be one character");
  return std::string(node.string());
}

std::unique_ptr<Decoder> read(const json::Node& node, std::string_view type) {
  if (type == "ByteLevel") return make_decoder<ByteLevelStage>(NoSettings{});
  if (type == "ByteFallback") return make_decoder<ByteFallbackStage>(NoSettings{});
  if (type == "Fuse") return make_decoder<FuseStage>(NoSettings{});
  if (type == "Strip") {
    return make_decoder<StripStage>(StripSettings{
        one_character(node["content"]), static_cast<size_t>(node["start"].integer(0, INT32_MAX)),
        static_cast<size_t>(node["stop"].integer(0, INT32_MAX))});
  }
  if (type == "Replace") {
    return make_decoder<ReplaceStage>(ReplaceSettings{Pattern::from_json(node["pattern"]),
                                                      std::string(node["content"].string())});
  }
  if (type == "Metaspace") {
    const bool prepends = node.string_or("prepend_scheme", "always") != "never" &&
                          node.boolean_or("add_prefix_space", true);
    return make_decoder<MetaspaceStage>(
        MetaspaceSettings{one_character(node["replacement"]), prepends});
  }
  if (type == "WordPiece") {
    return make_decoder<WordPieceStage>(
        WordPieceSettings{std::string(node["prefix"].string()), node["cleanup"].boolean()});
  }
  if (type == "BPEDecoder") return make_decoder<BpeStage>(std::string(node["suffix"].string()));
  if (type == "CTC") {
    return make_decoder<CtcStage>(CtcSettings{std::string(node["pad_token"].string()),
                                              std::string(node["word_delimiter_token"].string()),
                                              node["cleanup"].boolean()});
  }
  node["type"].fail(fmt::format("the decoder '{}' is not supported", escape_for_terminal(type)));
}

void flatten(const json::Node& node, std::vector<std::unique_ptr<Decoder>>& decoders) {
  if (decoders.size() >= kMaxStages)
    node.fail(fmt::format("the chain has more than {} decoders", kMaxStages));
  const std::string_view type = node["type"].string();
  if (type != "Sequence") {
    decoders.push_back(read(node, type));
    return;
  }
  const json::Node list = node["decoders"];
  for (size_t i = 0; i < list.array().size(); ++i) flatten(list.at(i), decoders);
}

}  // namespace

std::vector<std::unique_ptr<Decoder>> decoders_from_json(const json::Node& node) {
  std::vector<std::unique_ptr<Decoder>> decoders;
  flatten(node, decoders);
  return decoders;
}

std::unique_ptr<Decoder> space_joining_decoder() {
  return make_decoder<SpaceJoiningStage>(NoSettings{});
}

DecoderChain::DecoderChain(const std::vector<std::unique_ptr<Decoder>>& decoders,
                           std::string& out) {
  stages_.push_back(std::make_unique<StringSink>(out));
  for (auto decoder = decoders.rbegin(); decoder != decoders.rend(); ++decoder) {
    stages_.push_back((*decoder)->make_stage(*stages_.back()));
  }
  first_ = stages_.back().get();
}

void DecoderChain::finish() {
  first_->finish();
}

}  // namespace mxgpt::tokenizer
