// Oniguruma's Ruby syntax written for PCRE2. What the two read alike is copied; what differs:
//   (?m) lets the dot match newlines; an option group without a colon encloses the alternatives
//   behind it; x{n}? is an optional x{n}, x{n,m}+ a repeated x{n,m}, x** allowed, {,n} means {0,n};
//   \h is a hexadecimal digit, \v a vertical tab, \O any character, \w and \s are Unicode's
//   definitions; sets nest, intersect with && and know the POSIX names by their Unicode meaning.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/printable.h"
#include "text/tokenizer/regex.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

// Items of sets. Alphabetic and Lowercase by Unicode 16: these characters are younger members.
// Outside of brackets the superscripts and fractions of Latin-1 count as word characters, inside
// they do not.
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

struct Name {
  std::string_view name, items;
};

/// Property and POSIX names that PCRE2 does not know or reads differently, as the items of a set.
/// Compared without case, blanks, '-' and '_'.
constexpr Name kNames[] = {
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

std::optional<std::string_view> items_of(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  for (const Name& entry : kNames) {
    if (entry.name == plain) return entry.items;
  }
  return std::nullopt;
}

bool is_pcre2(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

/// A set of characters: what stands between brackets, and alternatives that brackets cannot hold.
struct Set {
  std::string items;
  std::vector<std::string> others;

  /// A pattern for one character.
  std::string pattern(bool negated) const {
    if (others.empty()) {
      if (items.empty()) return negated ? "\\p{Any}" : "(?!)";
      return fmt::format("[{}{}]", negated ? "^" : "", items);
    }
    std::string all = items.empty() ? "" : fmt::format("[{}]", items);
    for (const std::string& other : others) all += (all.empty() ? "" : "|") + other;
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }
};

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) step();
    for (size_t open = groups_.empty() ? top_level_options_ : 0; open > 0; --open) out_ += ')';
    return std::move(out_);
  }

 private:
  struct Group {
    size_t start;        ///< in out_
    size_t options = 0;  ///< option groups to close with it
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(where_, fmt::format("is a regular expression that cannot be used: {} in '{}'",
                                    printable(what), printable(in_)));
  }
  bool more() const { return at_ < in_.size(); }
  bool starts(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  bool skip(std::string_view text) {
    if (!starts(text)) return false;
    at_ += text.size();
    return true;
  }
  size_t& open_options() { return groups_.empty() ? top_level_options_ : groups_.back().options; }

  void step() {
    const char c = in_[at_];
    if (c == '(') {
      open_group();
    } else if (c == ')') {
      if (groups_.empty()) fail("an unmatched ')'");
      out_.append(groups_.back().options, ')');
      out_ += ')';
      atom_ = groups_.back().start;
      groups_.pop_back();
      ++at_;
      quantifiers();
    } else if (c == '[') {
      ++at_;
      atom_ = out_.size();
      out_ += set(0);
      quantifiers();
    } else if (c == '\\') {
      atom_ = out_.size();
      escape();
      quantifiers();
    } else if (c == '|' || c == '^' || c == '$') {
      out_ += c;
      ++at_;
    } else {
      atom_ = out_.size();
      const size_t length = unicode::length_of(c);
      out_ += in_.substr(at_, length);
      at_ += length;
      quantifiers();
    }
  }

  void open_group() {
    if (groups_.size() >= kMaxGroups) fail("groups too deep");
    const size_t start = out_.size();
    ++at_;
    if (!skip("?")) {
      out_ += '(';
    } else if (skip("#")) {
      const size_t end = in_.find(')', at_);
      if (end == std::string_view::npos) fail("an unfinished comment");
      at_ = end + 1;
      return;
    } else if (starts(":") || starts("=") || starts("!") || starts(">")) {
      out_ += "(?";
      out_ += in_[at_++];
    } else if (starts("<=") || starts("<!")) {
      out_ += fmt::format("(?{}", in_.substr(at_, 2));
      at_ += 2;
    } else if (starts("<")) {
      const size_t end = in_.find('>', at_);
      if (end == std::string_view::npos) fail("an unfinished group name");
      out_ += fmt::format("(?{}", in_.substr(at_, end + 1 - at_));
      at_ = end + 1;
    } else {
      std::string options;
      while (more() && in_[at_] != ')' && in_[at_] != ':') {
        const char c = in_[at_++];
        if (c != 'i' && c != 'm' && c != 'x' && c != '-') fail(fmt::format("the group '(?{}'", c));
        options += c == 'm' ? 's' : c;
      }
      if (!more()) fail("an unfinished group");
      out_ += fmt::format("(?{}:", options);
      if (in_[at_++] == ')') {
        if (++open_options() > kMaxGroups) fail("groups too deep");
        return;
      }
    }
    groups_.push_back({start});
  }

  /// Copies the quantifiers behind the atom that starts at out_[atom_].
  void quantifiers() {
    for (int count = 0; more(); ++count) {
      std::string quantifier;
      bool exact = false, interval = false;
      const char c = in_[at_];
      if (c == '*' || c == '+' || c == '?') {
        quantifier = c;
        ++at_;
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
      if (more() && in_[at_] == '?' && !exact)
        out_ += in_[at_++];
      else if (more() && in_[at_] == '+' && !interval)
        out_ += in_[at_++];
    }
  }

  bool read_interval(std::string& quantifier, bool& exact) {
    size_t i = at_ + 1;
    std::string low, high;
    bool comma = false;
    for (; i < in_.size() && in_[i] != '}'; ++i) {
      if (in_[i] == ',' && !comma)
        comma = true;
      else if (in_[i] >= '0' && in_[i] <= '9')
        (comma ? high : low) += in_[i];
      else
        return false;
    }
    if (i == in_.size() || (low.empty() && high.empty())) return false;
    exact = !comma;
    quantifier = fmt::format("{{{}{}{}}}", low.empty() ? "0" : low, comma ? "," : "", high);
    at_ = i + 1;
    return true;
  }

  void escape() {
    if (at_ + 1 >= in_.size()) fail("a trailing backslash");
    const char c = in_[at_ + 1];
    Set set;
    if (bool negated = false; class_escape(set, negated, false)) {
      out_ += set.pattern(negated);
      return;
    }
    if (c == 'b' || c == 'B') {
      const std::string is =
          fmt::format("(?={0})(?<!{0})|(?!{0})(?<={0})", fmt::format("[{}]", kWord));
      out_ += c == 'b' ? fmt::format("(?:{})", is) : fmt::format("(?!{})", is);
      at_ += 2;
    } else if (c == 'O') {
      out_ += "\\p{Any}";
      at_ += 2;
    } else if (const auto code = character_escape()) {
      out_ += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(*code));
    } else if (std::string_view("AZzGKRXNkg0123456789").find(c) != std::string_view::npos) {
      out_ += in_.substr(at_, 2);
      at_ += 2;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      fail(fmt::format("the escape '\\{}'", c));
    } else {
      const size_t length = unicode::length_of(c);
      out_ += in_.substr(at_, 1 + length);
      at_ += 1 + length;
    }
  }

  /// \d \w \s \h \p{…} and their opposites.
  bool class_escape(Set& set, bool& negated, bool in_set) {
    switch (in_[at_ + 1]) {
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
        property(set, negated, in_set);
        return true;
      default:
        return false;
    }
    negated = in_[at_ + 1] < 'a';
    at_ += 2;
    return true;
  }

  void property(Set& set, bool& negated, bool in_set) {
    negated = in_[at_ + 1] == 'P';
    at_ += 2;
    const size_t end = in_.find('}', at_);
    if (!skip("{") || end == std::string_view::npos) fail("a property without braces");
    if (skip("^")) negated = !negated;
    const std::string_view name = in_.substr(at_, end - at_);
    if (const auto items = items_of(name))
      set.items = *items == kWordInSet && !in_set ? kWord : *items;
    // PCRE2 takes the name of a script alone for its extensions too.
    else if (const auto script = fmt::format("\\p{{sc:{}}}", name); is_pcre2(script))
      set.items = script;
    else
      set.items = fmt::format("\\p{{{}}}", name);
    at_ = end + 1;
  }

  /// \t \x41 \x{41} \u0041 and the like.
  std::optional<char32_t> character_escape() {
    switch (in_[at_ + 1]) {
      case 't':
        at_ += 2;
        return '\t';
      case 'n':
        at_ += 2;
        return '\n';
      case 'v':
        at_ += 2;
        return '\v';
      case 'f':
        at_ += 2;
        return '\f';
      case 'r':
        at_ += 2;
        return '\r';
      case 'a':
        at_ += 2;
        return '\a';
      case 'e':
        at_ += 2;
        return 0x1B;
      case 'x': {
        at_ += 2;
        if (!skip("{")) return hexadecimal(1, 2);
        const char32_t code = hexadecimal(1, 8);
        if (!skip("}")) fail("an unfinished \\x{…}");
        return code;
      }
      case 'u':
        at_ += 2;
        return hexadecimal(4, 4);
      default:
        return std::nullopt;
    }
  }

  char32_t hexadecimal(size_t least, size_t most) {
    char32_t code = 0;
    size_t digits = 0;
    for (; digits < most && more(); ++digits, ++at_) {
      const char c = in_[at_];
      if (c >= '0' && c <= '9')
        code = code * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        code = code * 16 + ((c | 32) - 'a' + 10);
      else
        break;
    }
    if (digits < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      fail("a character number that is none");
    }
    return code;
  }

  /// A set whose '[' has been read, as a pattern for one character.
  std::string set(int depth) {
    Set plain;
    bool negated = false;
    return read_set(plain, negated, depth) ? plain.pattern(negated)
                                           : set_with_intersections(plain, negated, depth);
  }

  /// Reads up to ']' (true) or "&&" (false).
  bool read_set(Set& set, bool& negated, int depth) {
    if (depth >= kMaxSetDepth) fail("sets too deep");
    negated = skip("^");
    return read_items(set, depth, true);
  }

  std::string set_with_intersections(const Set& first, bool negated, int depth) {
    std::string all = first.pattern(false);
    for (bool done = false; !done;) {
      Set next;
      done = read_items(next, depth, false);
      all = fmt::format("(?={}){}", next.pattern(false), all);
    }
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }

  bool read_items(Set& set, int depth, bool bracket_may_be_literal) {
    for (bool first = bracket_may_be_literal;; first = false) {
      if (!more()) fail("an unfinished set");
      if (starts("]") && !first) {
        ++at_;
        return true;
      }
      if (skip("&&")) return false;
      if (starts("[:") && posix(set)) continue;
      if (skip("[")) {
        nested(set, depth);
        continue;
      }
      if (starts("\\") && at_ + 1 < in_.size()) {
        Set inner;
        if (bool negated = false; class_escape(inner, negated, true)) {
          add(set, inner, negated);
          continue;
        }
      }
      const char32_t low = set_character();
      char32_t high = low;
      if (starts("-") && at_ + 1 < in_.size() && in_[at_ + 1] != ']' && in_[at_ + 1] != '[' &&
          !in_.substr(at_ + 1).starts_with("&&")) {
        const size_t dash = at_++;
        Set inner;
        bool negated = false;
        if (starts("\\") && at_ + 1 < in_.size() && class_escape(inner, negated, true)) {
          at_ = dash;  // "a-\w": the dash is a character
        } else {
          high = set_character();
          if (high < low) fail("a range that runs backwards");
        }
      }
      set.items += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(low));
      if (high != low) set.items += fmt::format("-\\x{{{:X}}}", static_cast<uint32_t>(high));
    }
  }

  void nested(Set& set, int depth) {
    Set inner;
    bool negated = false;
    if (read_set(inner, negated, depth + 1)) {
      add(set, inner, negated);
    } else {
      set.others.push_back(set_with_intersections(inner, negated, depth + 1));
    }
  }

  /// [:name:] and [:^name:].
  bool posix(Set& set) {
    const size_t end = in_.find(":]", at_ + 2);
    if (end == std::string_view::npos || end - at_ > 20) return false;
    std::string_view name = in_.substr(at_ + 2, end - at_ - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    // Unlike \p{Punct}, the bracket holds the symbols too.
    const auto items =
        name == "punct" ? std::optional<std::string_view>("\\p{P}\\p{S}") : items_of(name);
    if (!items) {
      if (name != "graph" && name != "print") return false;
      set.items += fmt::format("[:{}{}:]", negated ? "^" : "", name);
    } else {
      add(set, Set{std::string(*items), {}}, negated);
    }
    at_ = end + 2;
    return true;
  }

  static void add(Set& set, const Set& inner, bool negated) {
    const bool one_property =
        inner.items.starts_with("\\p{") && inner.items.find('}') + 1 == inner.items.size();
    if (negated && inner.others.empty() && one_property) {
      set.items += fmt::format("\\P{}", inner.items.substr(2));
    } else if (negated) {
      set.others.push_back(inner.pattern(true));
    } else {
      set.items += inner.items;
      set.others.insert(set.others.end(), inner.others.begin(), inner.others.end());
    }
  }

  char32_t set_character() {
    if (starts("\\")) {
      if (at_ + 1 >= in_.size()) fail("a trailing backslash");
      if (const auto code = character_escape()) return *code;
      const char c = in_[at_ + 1];
      if (c == 'b') {
        at_ += 2;
        return '\b';
      }
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        fail(fmt::format("the escape '\\{}' in a set", c));
      }
      ++at_;
    }
    return unicode::next(in_, at_);
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
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
