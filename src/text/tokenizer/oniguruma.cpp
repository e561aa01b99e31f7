// Translates regular expressions from Oniguruma's Ruby syntax to PCRE2. Differences handled:
//   - (?m) lets the dot match newlines; an option group without a colon encloses the alternatives
//   after it.
//   - x{n}? is an optional x{n}; x{n,m}+ repeats x{n,m}; x** is allowed; {,n} means {0,n}.
//   - \h is a hexadecimal digit, \v a vertical tab, \O any character; \w and \s use Unicode
//   definitions.
//   - Sets nest, intersect with &&, and give POSIX names their Unicode meaning.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "text/tokenizer/regex.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

// Items of sets. Alphabetic and Lowercase follow Unicode 16; the explicit characters are newer than
// PCRE2's tables. Superscripts and fractions of Latin-1 are word characters outside of brackets
// only.
#define ALPHABETIC                                           \
  "\\p{Alphabetic}\\x{363}-\\x{36F}\\x{C04}\\x{F82}\\x{F83}" \
  "\\x{1DD3}-\\x{1DE6}\\x{11080}\\x{11081}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
constexpr std::string_view kAlphabetic = ALPHABETIC;
constexpr std::string_view kAlphanumeric = ALPHABETIC "\\p{Nd}";
constexpr std::string_view kLowercase = "\\p{Lowercase}\\x{10FC}\\x{A7F2}-\\x{A7F4}\\x{AB69}";
constexpr std::string_view kWordInSet = WORD;
constexpr std::string_view kWord = WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
#undef ALPHABETIC
#undef WORD
constexpr std::string_view kSpace = "\\t-\\r\\x20\\x{85}\\p{Z}";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr int kMaxSetDepth = 16, kMaxQuantifiers = 8;
constexpr size_t kMaxGroups = 1000;

struct PropertyName {
  std::string_view name, items;
};

/// Property and POSIX names that PCRE2 lacks or interprets differently, as set items. Compared
/// without case, spaces, '-' and '_'.
constexpr PropertyName kNames[] = {
    {"letter", "\\p{L}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"combiningmark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"unassigned", "\\p{Cn}"},
    {"privateuse", "\\p{Co}"},
    {"alpha", kAlphabetic},
    {"alphabetic", kAlphabetic},
    {"upper", "\\p{Uppercase}"},
    {"lower", kLowercase},
    {"lowercase", kLowercase},
    {"digit", "\\p{Nd}"},
    {"alnum", kAlphanumeric},
    {"punct", "\\p{P}"},
    {"cntrl", "\\p{Cc}"},
    {"xdigit", kHex},
    {"blank", "\\p{Zs}\\t"},
    {"space", kSpace},
    {"whitespace", kSpace},
    {"word", kWordInSet},
};

std::optional<std::string_view> property_items(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  for (const PropertyName& entry : kNames) {
    if (entry.name == plain) return entry.items;
  }
  return std::nullopt;
}

bool compiles_in_pcre2(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

/// A set of characters: bracket items, and alternatives that a bracket expression cannot contain.
struct CharacterSet {
  std::string items;
  std::vector<std::string> alternatives;

  /// A pattern that matches one character.
  std::string pattern(bool negated) const {
    if (alternatives.empty()) {
      if (items.empty()) return negated ? "\\p{Any}" : "(?!)";
      return fmt::format("[{}{}]", negated ? "^" : "", items);
    }
    std::string all = items.empty() ? "" : fmt::format("[{}]", items);
    for (const std::string& other : alternatives) all += (all.empty() ? "" : "|") + other;
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }
};

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    while (pos_ < pattern_.size()) translate_next();
    for (size_t open = groups_.empty() ? top_level_options_ : 0; open > 0; --open) out_ += ')';
    return std::move(out_);
  }

 private:
  struct Group {
    size_t start;        ///< in out_
    size_t options = 0;  ///< option groups that end with it
  };

  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(where_, fmt::format("unsupported regular expression: {} in '{}'",
                                    escape_for_terminal(problem), escape_for_terminal(pattern_)));
  }
  bool more() const { return pos_ < pattern_.size(); }
  bool starts(std::string_view text) const { return pattern_.substr(pos_).starts_with(text); }
  bool skip(std::string_view text) {
    if (!starts(text)) return false;
    pos_ += text.size();
    return true;
  }
  size_t& open_options() { return groups_.empty() ? top_level_options_ : groups_.back().options; }

  void translate_next() {
    const char c = pattern_[pos_];
    if (c == '(') {
      open_group();
    } else if (c == ')') {
      if (groups_.empty()) fail("an unmatched ')'");
      out_.append(groups_.back().options, ')');
      out_ += ')';
      atom_ = groups_.back().start;
      groups_.pop_back();
      ++pos_;
      copy_quantifiers();
    } else if (c == '[') {
      ++pos_;
      atom_ = out_.size();
      out_ += parse_set(0);
      copy_quantifiers();
    } else if (c == '\\') {
      atom_ = out_.size();
      parse_escape();
      copy_quantifiers();
    } else if (c == '|' || c == '^' || c == '$') {
      out_ += c;
      ++pos_;
    } else {
      atom_ = out_.size();
      const size_t length = text::unicode::length_of(c);
      out_ += pattern_.substr(pos_, length);
      pos_ += length;
      copy_quantifiers();
    }
  }

  void open_group() {
    if (groups_.size() >= kMaxGroups) fail("groups nested too deeply");
    const size_t start = out_.size();
    ++pos_;
    if (!skip("?")) {
      out_ += '(';
    } else if (skip("#")) {
      const size_t end = pattern_.find(')', pos_);
      if (end == std::string_view::npos) fail("an unfinished comment");
      pos_ = end + 1;
      return;
    } else if (starts(":") || starts("=") || starts("!") || starts(">")) {
      out_ += "(?";
      out_ += pattern_[pos_++];
    } else if (starts("<=") || starts("<!")) {
      out_ += fmt::format("(?{}", pattern_.substr(pos_, 2));
      pos_ += 2;
    } else if (starts("<")) {
      const size_t end = pattern_.find('>', pos_);
      if (end == std::string_view::npos) fail("an unfinished group name");
      out_ += fmt::format("(?{}", pattern_.substr(pos_, end + 1 - pos_));
      pos_ = end + 1;
    } else {
      std::string options;
      while (more() && pattern_[pos_] != ')' && pattern_[pos_] != ':') {
        const char c = pattern_[pos_++];
        if (c != 'i' && c != 'm' && c != 'x' && c != '-') fail(fmt::format("the group '(?{}'", c));
        options += c == 'm' ? 's' : c;
      }
      if (!more()) fail("an unfinished group");
      out_ += fmt::format("(?{}:", options);
      if (pattern_[pos_++] == ')') {
        if (++open_options() > kMaxGroups) fail("groups nested too deeply");
        return;
      }
    }
    groups_.push_back({start});
  }

  /// Copies the quantifiers after the atom that starts at out_[atom_].
  void copy_quantifiers() {
    for (int count = 0; more(); ++count) {
      std::string quantifier;
      bool exact = false, interval = false;
      const char c = pattern_[pos_];
      if (c == '*' || c == '+' || c == '?') {
        quantifier = c;
        ++pos_;
      } else if (c == '{' && read_interval(quantifier, exact)) {
        interval = true;
      } else {
        return;
      }
      if (count > kMaxQuantifiers) fail("too many quantifiers");
      if (count > 0) {
        out_.insert(atom_, "(?:");
        out_ += ')';
      }
      out_ += quantifier;
      if (more() && pattern_[pos_] == '?' && !exact)
        out_ += pattern_[pos_++];
      else if (more() && pattern_[pos_] == '+' && !interval)
        out_ += pattern_[pos_++];
    }
  }

  bool read_interval(std::string& quantifier, bool& exact) {
    size_t i = pos_ + 1;
    std::string low, high;
    bool comma = false;
    for (; i < pattern_.size() && pattern_[i] != '}'; ++i) {
      if (pattern_[i] == ',' && !comma)
        comma = true;
      else if (pattern_[i] >= '0' && pattern_[i] <= '9')
        (comma ? high : low) += pattern_[i];
      else
        return false;
    }
    if (i == pattern_.size() || (low.empty() && high.empty())) return false;
    exact = !comma;
    quantifier = fmt::format("{{{}{}{}}}", low.empty() ? "0" : low, comma ? "," : "", high);
    pos_ = i + 1;
    return true;
  }

  void parse_escape() {
    if (pos_ + 1 >= pattern_.size()) fail("a trailing backslash");
    const char c = pattern_[pos_ + 1];
    CharacterSet set;
    if (bool negated = false; parse_class_escape(set, negated, false)) {
      out_ += set.pattern(negated);
      return;
    }
    if (c == 'b' || c == 'B') {
      const std::string is =
          fmt::format("(?={0})(?<!{0})|(?!{0})(?<={0})", fmt::format("[{}]", kWord));
      out_ += c == 'b' ? fmt::format("(?:{})", is) : fmt::format("(?!{})", is);
      pos_ += 2;
    } else if (c == 'O') {
      out_ += "\\p{Any}";
      pos_ += 2;
    } else if (const auto code = parse_character_escape()) {
      out_ += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(*code));
    } else if (std::string_view("AZzGKRXNkg0123456789").find(c) != std::string_view::npos) {
      out_ += pattern_.substr(pos_, 2);
      pos_ += 2;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      fail(fmt::format("the escape '\\{}'", c));
    } else {
      const size_t length = text::unicode::length_of(c);
      out_ += pattern_.substr(pos_, 1 + length);
      pos_ += 1 + length;
    }
  }

  /// \d \w \s \h \p{…} and their negations.
  bool parse_class_escape(CharacterSet& set, bool& negated, bool in_set) {
    switch (pattern_[pos_ + 1]) {
      case 'd':
      case 'D':
        set.items = "\\p{Nd}";
        break;
      case 'w':
      case 'W':
        set.items = in_set ? kWordInSet : kWord;
        break;
      case 's':
      case 'S':
        set.items = kSpace;
        break;
      case 'h':
      case 'H':
        set.items = kHex;
        break;
      case 'p':
      case 'P':
        parse_property(set, negated, in_set);
        return true;
      default:
        return false;
    }
    negated = pattern_[pos_ + 1] < 'a';
    pos_ += 2;
    return true;
  }

  void parse_property(CharacterSet& set, bool& negated, bool in_set) {
    negated = pattern_[pos_ + 1] == 'P';
    pos_ += 2;
    const size_t end = pattern_.find('}', pos_);
    if (!skip("{") || end == std::string_view::npos) fail("a property without braces");
    if (skip("^")) negated = !negated;
    const std::string_view name = pattern_.substr(pos_, end - pos_);
    if (const auto items = property_items(name))
      set.items = *items == kWordInSet && !in_set ? kWord : *items;
    // A bare script name includes script extensions in PCRE2.
    else if (const auto script = fmt::format("\\p{{sc:{}}}", name); compiles_in_pcre2(script))
      set.items = script;
    else
      set.items = fmt::format("\\p{{{}}}", name);
    pos_ = end + 1;
  }

  /// \t \x41 \x{41} \u0041 and the like.
  std::optional<char32_t> parse_character_escape() {
    switch (pattern_[pos_ + 1]) {
      case 't':
        pos_ += 2;
        return '\t';
      case 'n':
        pos_ += 2;
        return '\n';
      case 'v':
        pos_ += 2;
        return '\v';
      case 'f':
        pos_ += 2;
        return '\f';
      case 'r':
        pos_ += 2;
        return '\r';
      case 'a':
        pos_ += 2;
        return '\a';
      case 'e':
        pos_ += 2;
        return 0x1B;
      case 'x': {
        pos_ += 2;
        if (!skip("{")) return parse_hex(1, 2);
        const char32_t code = parse_hex(1, 8);
        if (!skip("}")) fail("an unfinished \\x{…}");
        return code;
      }
      case 'u':
        pos_ += 2;
        return parse_hex(4, 4);
      default:
        return std::nullopt;
    }
  }

  char32_t parse_hex(size_t min_digits, size_t max_digits) {
    char32_t code = 0;
    size_t digits = 0;
    for (; digits < max_digits && more(); ++digits, ++pos_) {
      const char c = pattern_[pos_];
      if (c >= '0' && c <= '9')
        code = code * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        code = code * 16 + ((c | 32) - 'a' + 10);
      else
        break;
    }
    if (digits < min_digits || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      fail("an invalid code point");
    }
    return code;
  }

  /// Parses a set after its '[' into a pattern that matches one character.
  std::string parse_set(int depth) {
    CharacterSet plain;
    bool negated = false;
    return read_set(plain, negated, depth) ? plain.pattern(negated)
                                           : parse_intersections(plain, negated, depth);
  }

  /// Reads up to ']' (true) or "&&" (false).
  bool read_set(CharacterSet& set, bool& negated, int depth) {
    if (depth >= kMaxSetDepth) fail("sets too deep");
    negated = skip("^");
    return read_items(set, depth, true);
  }

  std::string parse_intersections(const CharacterSet& first, bool negated, int depth) {
    std::string all = first.pattern(false);
    for (bool done = false; !done;) {
      CharacterSet next;
      done = read_items(next, depth, false);
      all = fmt::format("(?={}){}", next.pattern(false), all);
    }
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }

  bool read_items(CharacterSet& set, int depth, bool bracket_may_be_literal) {
    for (bool first = bracket_may_be_literal;; first = false) {
      if (!more()) fail("an unfinished set");
      if (starts("]") && !first) {
        ++pos_;
        return true;
      }
      if (skip("&&")) return false;
      if (starts("[:") && parse_posix_class(set)) continue;
      if (skip("[")) {
        parse_nested_set(set, depth);
        continue;
      }
      if (starts("\\") && pos_ + 1 < pattern_.size()) {
        CharacterSet inner;
        if (bool negated = false; parse_class_escape(inner, negated, true)) {
          add_items(set, inner, negated);
          continue;
        }
      }
      const char32_t low = parse_set_character();
      char32_t high = low;
      if (starts("-") && pos_ + 1 < pattern_.size() && pattern_[pos_ + 1] != ']' &&
          pattern_[pos_ + 1] != '[' && !pattern_.substr(pos_ + 1).starts_with("&&")) {
        const size_t dash = pos_++;
        CharacterSet inner;
        bool negated = false;
        if (starts("\\") && pos_ + 1 < pattern_.size() &&
            parse_class_escape(inner, negated, true)) {
          pos_ = dash;  // "a-\w": the dash is a character
        } else {
          high = parse_set_character();
          if (high < low) fail("a reversed range");
        }
      }
      set.items += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(low));
      if (high != low) set.items += fmt::format("-\\x{{{:X}}}", static_cast<uint32_t>(high));
    }
  }

  void parse_nested_set(CharacterSet& set, int depth) {
    CharacterSet inner;
    bool negated = false;
    if (read_set(inner, negated, depth + 1)) {
      add_items(set, inner, negated);
    } else {
      set.alternatives.push_back(parse_intersections(inner, negated, depth + 1));
    }
  }

  /// [:name:] and [:^name:].
  bool parse_posix_class(CharacterSet& set) {
    const size_t end = pattern_.find(":]", pos_ + 2);
    if (end == std::string_view::npos || end - pos_ > 20) return false;
    std::string_view name = pattern_.substr(pos_ + 2, end - pos_ - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    // Unlike \p{Punct}, the bracket includes symbols.
    const auto items =
        name == "punct" ? std::optional<std::string_view>("\\p{P}\\p{S}") : property_items(name);
    if (!items) {
      if (name != "graph" && name != "print") return false;
      set.items += fmt::format("[:{}{}:]", negated ? "^" : "", name);
    } else {
      add_items(set, CharacterSet{std::string(*items), {}}, negated);
    }
    pos_ = end + 2;
    return true;
  }

  static void add_items(CharacterSet& set, const CharacterSet& inner, bool negated) {
    const bool one_property =
        inner.items.starts_with("\\p{") && inner.items.find('}') + 1 == inner.items.size();
    if (negated && inner.alternatives.empty() && one_property) {
      set.items += fmt::format("\\P{}", inner.items.substr(2));
    } else if (negated) {
      set.alternatives.push_back(inner.pattern(true));
    } else {
      set.items += inner.items;
      set.alternatives.insert(set.alternatives.end(), inner.alternatives.begin(),
                              inner.alternatives.end());
    }
  }

  char32_t parse_set_character() {
    if (starts("\\")) {
      if (pos_ + 1 >= pattern_.size()) fail("a trailing backslash");
      if (const auto code = parse_character_escape()) return *code;
      const char c = pattern_[pos_ + 1];
      if (c == 'b') {
        pos_ += 2;
        return '\b';
      }
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        fail(fmt::format("the escape '\\{}' in a set", c));
      }
      ++pos_;
    }
    return text::unicode::next(pattern_, pos_);
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;
  std::vector<Group> groups_;
  size_t top_level_options_ = 0;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace mxgpt::tokenizer
