#include "text/tokenizer/normalizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/unicode_normalizer.h"
#include "text/tokenizer/unicode_properties.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

constexpr size_t kMaxNormalizers = 64;
constexpr size_t kMaxInserted = 4096;

/// Limits on expansion of the text, so that no file can exhaust memory.
constexpr size_t kMaxBytes = size_t{1} << 30, kMaxGrowth = 1 << 10;

void check_growth(size_t from, size_t to) {
  const size_t limit = std::min(kMaxBytes, (from + 1024) * kMaxGrowth);
  if (to > limit)
    throw Error("tokenizer", fmt::format("the normalizers expand the text beyond {} bytes", limit));
}

std::string inserted_text(const json::Node& node) {
  if (node.string().size() > kMaxInserted) node.fail(fmt::format("exceeds {} bytes", kMaxInserted));
  return std::string(node.string());
}

/// Rewrites per character: `rewrite(c, out)` appends the replacement of c.
template <class Rewrite>
void for_each_character(NormalizedText& text, Rewrite&& rewrite) {
  std::string out;
  out.reserve(text.text.size());
  for (size_t i = 0; i < text.text.size();) {
    const bool first = i == 0;
    rewrite(text::unicode::next(text.text, i), out);
    if (first && out.empty()) text.at_start = false;
  }
  text.text = std::move(out);
}

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  void normalize(NormalizedText& text) const override {
    text.text = to_normal_form(text.text, form_);
  }

 private:
  NormalForm form_;
};

/// A normalizer that maps single characters and has no settings.
class PerCharacter final : public Normalizer {
 public:
  using Rewrite = void (*)(char32_t c, std::string& out);
  explicit PerCharacter(Rewrite rewrite) : rewrite_(rewrite) {}
  void normalize(NormalizedText& text) const override { for_each_character(text, rewrite_); }

 private:
  Rewrite rewrite_;
};

void lowercase(char32_t c, std::string& out) {
  append_lowercase(out, c);
}

void strip_accent(char32_t c, std::string& out) {
  if (!is_mark(c)) text::unicode::append(out, c);
}

/// The clean-up of Google's NMT (sentencepiece nmt_nfkc).
void nmt(char32_t c, std::string& out) {
  const bool control = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) ||
                       c == 0x7F || c == 0x8F || c == 0x9F;
  if (control) return;
  const bool is_space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                        (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                        c == 0xFEFF || c == 0xFFFD;
  text::unicode::append(out, is_space ? ' ' : c);
}

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  void normalize(NormalizedText& text) const override {
    std::string& s = text.text;
    size_t begin = 0, end = s.size();
    for (size_t i = 0;
         left_ && i < s.size() && text::unicode::is_whitespace(text::unicode::next(s, i));)
      begin = i;
    while (right_ && end > begin) {
      size_t last = end - 1;
      while ((s[last] & 0xC0) == 0x80) --last;
      size_t i = last;
      if (!text::unicode::is_whitespace(text::unicode::next(s, i))) break;
      end = last;
    }
    if (begin > 0) text.at_start = false;
    s = s.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class Affix final : public Normalizer {
 public:
  Affix(std::string before, std::string after)
      : before_(std::move(before)), after_(std::move(after)) {}
  void normalize(NormalizedText& text) const override {
    if (!text.text.empty()) text.text = before_ + text.text + after_;
  }

 private:
  std::string before_, after_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void normalize(NormalizedText& text) const override {
    const std::string& s = text.text;
    std::string out;
    out.reserve(s.size());
    size_t consumed = 0;
    pattern_.for_each_match(s, [&](size_t begin, size_t end) {
      // A replacement counts as originating from the last character of its match.
      if (begin == 0 && end > text::unicode::length_of(s[0])) text.at_start = false;
      if (begin == 0 && end > 0 && content_.empty()) text.at_start = false;
      out.append(s, consumed, begin - consumed);
      out += content_;
      check_growth(s.size(), out.size());
      consumed = end;
    });
    out.append(s, consumed);
    text.text = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevel final : public Normalizer {
 public:
  void normalize(NormalizedText& text) const override {
    std::string out;
    ByteAlphabet::get().append_encoded(out, text.text);
    text.text = std::move(out);
  }
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}
  void normalize(NormalizedText& text) const override {
    text.text = map_.normalize_by_graphemes(text.text);
  }

 private:
  Charsmap map_;
};

class Sentencepiece final : public Normalizer {
 public:
  Sentencepiece(std::optional<Charsmap> map, bool remove_extra_whitespaces)
      : map_(std::move(map)), remove_extra_whitespaces_(remove_extra_whitespaces) {}

  void normalize(NormalizedText& text) const override {
    if (map_) text.text = map_->normalize_by_longest_match(text.text);
    if (!remove_extra_whitespaces_) return;
    std::string out;
    for (const char c : text.text) {
      if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
    }
    if (out.ends_with(' ')) out.pop_back();
    text.text = std::move(out);
  }

 private:
  std::optional<Charsmap> map_;
  bool remove_extra_whitespaces_;
};

class Bert final : public Normalizer {
 public:
  explicit Bert(const json::Node& node)
      : clean_text_(node["clean_text"].boolean()),
        handle_chinese_(node["handle_chinese_chars"].boolean()),
        lowercase_(node["lowercase"].boolean()),
        strip_accents_(node.boolean_or("strip_accents", lowercase_)) {}

  void normalize(NormalizedText& text) const override {
    if (clean_text_) {
      for_each_character(text, [](char32_t c, std::string& out) {
        if (c == 0 || is_control(c)) return;
        text::unicode::append(out, text::unicode::is_whitespace(c) ? ' ' : c);
      });
    }
    if (handle_chinese_) {
      for_each_character(text, [](char32_t c, std::string& out) {
        const bool is_cjk = is_chinese(c);
        if (is_cjk) out += ' ';
        text::unicode::append(out, c);
        if (is_cjk) out += ' ';
      });
    }
    if (strip_accents_) {
      text.text = to_normal_form(text.text, NormalForm::kNfd);
      for_each_character(text, [](char32_t c, std::string& out) {
        if (!is_nonspacing_mark(c)) text::unicode::append(out, c);
      });
    }
    if (lowercase_) for_each_character(text, lowercase);
  }

 private:
  /// The blocks listed by BERT's tokenization.py: ideographs, without kana and hangul.
  static bool is_chinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }

  bool clean_text_, handle_chinese_, lowercase_, strip_accents_;
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}

  void normalize(NormalizedText& text) const override {
    const size_t before = text.text.size();
    for (const auto& part : parts_) {
      part->normalize(text);
      check_growth(before, text.text.size());
    }
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

std::unique_ptr<Normalizer> read(const json::Node& node, size_t& count) {
  if (++count > kMaxNormalizers)
    node.fail(fmt::format("the chain has more than {} normalizers", kMaxNormalizers));
  const std::string_view type = node["type"].string();
  if (type == "Sequence") {
    const json::Node list = node["normalizers"];
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (size_t i = 0; i < list.array().size(); ++i) parts.push_back(read(list.at(i), count));
    return std::make_unique<Sequence>(std::move(parts));
  }
  if (type == "NFC") return std::make_unique<UnicodeForm>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<PerCharacter>(lowercase);
  if (type == "StripAccents") return std::make_unique<PerCharacter>(strip_accent);
  if (type == "Nmt") return std::make_unique<PerCharacter>(nmt);
  if (type == "Strip") {
    return std::make_unique<Strip>(node["strip_left"].boolean(), node["strip_right"].boolean());
  }
  if (type == "Prepend") return std::make_unique<Affix>(inserted_text(node["prepend"]), "");
  if (type == "Append") return std::make_unique<Affix>("", inserted_text(node["append"]));
  if (type == "Replace") {
    return std::make_unique<Replace>(Pattern::from_json(node["pattern"]),
                                     inserted_text(node["content"]));
  }
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "BertNormalizer") return std::make_unique<Bert>(node);
  if (type == "Precompiled") {
    const json::Node map = node["precompiled_charsmap"];
    return std::make_unique<Precompiled>(Charsmap::from_base64(map.string(), map.path()));
  }
  node["type"].fail(fmt::format("the normalizer '{}' is not supported", escape_for_terminal(type)));
}

}  // namespace

std::unique_ptr<Normalizer> Normalizer::from_json(const json::Node& node) {
  size_t count = 0;
  return read(node, count);
}

std::unique_ptr<Normalizer> sentencepiece_normalizer(std::optional<Charsmap> map,
                                                     bool remove_extra_whitespaces) {
  return std::make_unique<Sentencepiece>(std::move(map), remove_extra_whitespaces);
}

}  // namespace mxgpt::tokenizer
