#include "chat/constraints/grammar_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::chat {

namespace {

constexpr size_t kMaxPatternBytes = 2 << 10;
constexpr int kMaxNesting = 32;      // groups
constexpr double kMaxRepeat = 256;   // one counted repetition, and the product of nested ones
constexpr double kMaxSize = 10'000;  // minItems, maxLength and the like
constexpr size_t kMaxRules = 1000;

/// The largest product of nested counts: "(a{9}){9}" is 81. Throws Error for groups nested too
/// deeply, because compilers recurse over them. `is_grammar`: brackets in strings and comments do
/// not count.
double max_repeat_product(std::string_view pattern, bool is_grammar = false) {
  std::vector<double> groups{1};  // the largest product in each open group
  double largest = 1, last = 1;   // `last`: of the element before a count
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      ++i;
      last = 1;
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      last = 1;
    } else if (is_grammar && c == '"') {
      for (++i; i < pattern.size() && pattern[i] != '"'; ++i) i += pattern[i] == '\\';
      last = 1;
    } else if (is_grammar && c == '#') {
      i = std::min(pattern.find_first_of("\r\n", i), pattern.size());
    } else if (c == '(') {
      groups.push_back(1);
      if (groups.size() > static_cast<size_t>(kMaxNesting))
        throw Error("", fmt::format("its groups are nested deeper than {}", kMaxNesting));
    } else if (c == ')' && groups.size() > 1) {
      last = groups.back();
      groups.pop_back();
    } else if (c == '{') {
      double count = 0, max_count = 0;
      for (++i; i < pattern.size() && pattern[i] != '}'; ++i) {
        if (pattern[i] >= '0' && pattern[i] <= '9') {
          count = std::min(count * 10 + (pattern[i] - '0'), 1e12);
        } else {
          count = 0;
        }
        max_count = std::max(max_count, count);
      }
      last *= std::max(1.0, max_count);
    } else if (c != '*' && c != '+' && c != '?') {
      last = 1;
    }
    groups.back() = std::max(groups.back(), last);
    largest = std::max(largest, last);
  }
  return largest;
}

/// One element of a sequence, with its quantifier.
struct Element {
  enum class Kind { literal, empty, reference, group };
  Kind kind = Kind::literal;
  std::string rule;                                ///< of a reference
  std::vector<std::vector<Element>> alternatives;  ///< of a group
  bool optional = false;                           ///< its quantifier allows no occurrence
  bool unbounded = false;                          ///< *, + or {n,}
  std::string_view text;                           ///< in the source, for errors
};
using Alternatives = std::vector<std::vector<Element>>;

/// Shared by both notations, which differ in their atoms only.
class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {}
  virtual ~Parser() = default;

 protected:
  virtual void skip_space() {}
  virtual bool at_end() { return pos_ >= source_.size(); }
  /// Reads an element at pos_, which is not at_end() and neither '|' nor ')'.
  virtual Element atom() = 0;

  Alternatives alternatives() {
    Alternatives out(1);
    for (skip_space(); !at_end() && source_[pos_] != ')'; skip_space()) {
      if (source_[pos_] == '|') {
        ++pos_;
        out.emplace_back();
        continue;
      }
      const size_t start = pos_;
      Element element = atom();
      const size_t end = quantifiers(element);
      element.text = source_.substr(start, end - start);
      out.back().push_back(std::move(element));
    }
    return out;
  }

  /// A group whose '(' has been read.
  Element group() {
    Element out{.kind = Element::Kind::group, .alternatives = alternatives()};
    if (pos_ < source_.size()) ++pos_;  // ')'
    return out;
  }

  /// A class whose '[' has been read.
  void skip_class() {
    while (pos_ < source_.size() && source_[pos_] != ']') pos_ += source_[pos_] == '\\' ? 2 : 1;
    ++pos_;
  }

  /// Returns the end of the last one.
  size_t quantifiers(Element& element) {
    size_t last = std::min(pos_, source_.size());
    for (skip_space(); pos_ < source_.size(); last = ++pos_, skip_space()) {
      const char c = source_[pos_];
      if (c == '*' || c == '+') {
        element.unbounded = true;
        element.optional = element.optional || c == '*';
      } else if (c == '?') {
        element.optional = true;
      } else if (const auto end = c == '{' ? source_.find('}', pos_) : source_.npos;
                 end != source_.npos) {
        const std::string_view counts = source_.substr(pos_ + 1, end - pos_ - 1);
        const size_t digit = counts.find_first_of("123456789,");
        element.optional =
            element.optional || digit == counts.npos || counts[digit] == ',';  // {0,n}, {,n}
        element.unbounded = element.unbounded || counts.ends_with(',');
        pos_ = end;
      } else {
        break;
      }
    }
    return last;
  }

  std::string_view source_;
  size_t pos_ = 0;
};

class RegexParser : public Parser {
 public:
  using Parser::Parser;
  /// Stops at an unmatched ')', which the compiler reports.
  Alternatives parse() { return alternatives(); }

 protected:
  Element atom() override {
    const char c = source_[pos_++];
    if (c == '[') {
      skip_class();
    } else if (c == '(') {
      if (source_.substr(pos_).starts_with("?:")) {
        pos_ += 2;
      } else if (source_.substr(pos_).starts_with("?")) {  // (?<name>, (?P<name>
        pos_ = std::min(source_.find('>', pos_), source_.size() - 1) + 1;
      }
      return group();
    } else if (c == '\\') {
      const char escaped = pos_ < source_.size() ? source_[pos_++] : '\\';
      if (escaped == 'b' || escaped == 'B') return {.kind = Element::Kind::empty};
    } else if (c == '^' || c == '$') {
      return {.kind = Element::Kind::empty};
    }
    return {};
  }
};

class GrammarParser : public Parser {
 public:
  using Parser::Parser;
  std::map<std::string, Alternatives> parse() {
    std::map<std::string, Alternatives> rules;
    skip_space();
    while (pos_ < source_.size()) {
      const auto header = rule_header();
      if (!header) break;
      const auto [name, length] = *header;
      pos_ += length;
      rules[std::string(name)] = alternatives();
      if (pos_ < source_.size() && source_[pos_] == ')') break;  // the compiler reports it
    }
    return rules;
  }

 protected:
  void skip_space() override {
    while (pos_ < source_.size()) {
      if (std::string_view(" \t\r\n").find(source_[pos_]) != std::string_view::npos) {
        ++pos_;
      } else if (source_[pos_] == '#') {
        pos_ = std::min(source_.find_first_of("\r\n", pos_), source_.size());
      } else {
        break;
      }
    }
  }
  bool at_end() override { return pos_ >= source_.size() || rule_header(); }

  Element atom() override {
    const char c = source_[pos_];
    if (const std::string_view name = name_at(pos_); !name.empty()) {
      pos_ += name.size();
      return {.kind = Element::Kind::reference, .rule = std::string(name)};
    }
    ++pos_;
    if (c == '(') return group();
    if (c == '[') {
      skip_class();
    } else if (c == '"') {
      const size_t start = pos_;
      while (pos_ < source_.size() && source_[pos_] != '"') pos_ += source_[pos_] == '\\' ? 2 : 1;
      const bool is_empty = pos_ == start;
      ++pos_;
      if (is_empty) return {.kind = Element::Kind::empty};
    }
    return {};
  }

 private:
  std::string_view name_at(size_t begin) const {
    size_t end = begin;
    while (end < source_.size() &&
           (std::isalnum(static_cast<unsigned char>(source_[end])) || source_[end] == '_' ||
            source_[end] == '-' || (source_[end] == '.' && end > begin)))
      ++end;
    return source_.substr(begin, end - begin);
  }
  /// The name at pos_ and the length of "name ::=", if a rule begins here.
  std::optional<std::pair<std::string_view, size_t>> rule_header() const {
    const std::string_view name = name_at(pos_);
    const size_t assign = source_.find_first_not_of(" \t\r\n", pos_ + name.size());
    if (name.empty() || assign == source_.npos || source_.substr(assign, 3) != "::=") return {};
    return std::pair(name, assign + 3 - pos_);
  }
};

/// Finds unbounded repetitions of bodies that match the empty string.
class NullableBodies {
 public:
  explicit NullableBodies(const std::map<std::string, Alternatives>& rules) {
    for (bool changed = true; changed;) {
      changed = false;
      for (const auto& [name, body] : rules)
        if (!nullable_.contains(name) && is_nullable(body)) changed = nullable_.insert(name).second;
    }
  }

  /// Throws Error for the first one.
  void check(const Alternatives& alternatives) const {
    for (const auto& sequence : alternatives) {
      for (const Element& element : sequence) {
        if (element.unbounded && is_nullable_body(element)) {
          throw Error("",
                      fmt::format("repeats '{}' without bound, and its body can match the empty "
                                  "string; make the body match at least one character",
                                  escape_for_terminal(std::string(element.text), 80)));
        }
        check(element.alternatives);
      }
    }
  }

 private:
  bool is_nullable_body(const Element& element) const {
    switch (element.kind) {
      case Element::Kind::literal:
        return false;
      case Element::Kind::empty:
        return true;
      case Element::Kind::reference:
        return nullable_.contains(element.rule);
      case Element::Kind::group:
        return is_nullable(element.alternatives);
    }
    return false;
  }
  bool is_nullable(const Alternatives& alternatives) const {
    return std::any_of(alternatives.begin(), alternatives.end(), [&](const auto& sequence) {
      return std::all_of(sequence.begin(), sequence.end(), [&](const Element& element) {
        return element.optional || is_nullable_body(element);
      });
    });
  }

  std::set<std::string, std::less<>> nullable_;
};

}  // namespace

void check_regex(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    throw Error("", fmt::format("the pattern is longer than {} bytes", kMaxPatternBytes));
  if (max_repeat_product(pattern) > kMaxRepeat)
    throw Error("", fmt::format("the pattern repeats more than {} times", kMaxRepeat));
  NullableBodies({}).check(RegexParser(pattern).parse());
}

void check_grammar(std::string_view grammar) {
  size_t count = 0;
  for (size_t at = grammar.find("::="); at != grammar.npos; at = grammar.find("::=", at + 1))
    ++count;
  if (count > kMaxRules) throw Error("", fmt::format("has more than {} rules", kMaxRules));
  if (max_repeat_product(grammar, true) > kMaxRepeat)
    throw Error("", fmt::format("repeats more than {} times", kMaxRepeat));
  const auto rules = GrammarParser(grammar).parse();
  const NullableBodies bodies(rules);
  for (const auto& [name, body] : rules) bodies.check(body);
}

void check_schema(const json::value& schema) {
  if (schema.is_array()) {
    for (const json::value& entry : schema.get_array()) check_schema(entry);
  } else if (schema.is_object()) {
    static const std::set<std::string_view> kSizes{"minItems",  "maxItems",      "minLength",
                                                   "maxLength", "minProperties", "maxProperties"};
    for (const auto& [key, value] : schema.get_object()) {
      if (kSizes.contains(std::string_view(key)) && value.is_number() &&
          !(value.to_number<double>() >= 0 && value.to_number<double>() <= kMaxSize)) {
        throw Error("", fmt::format("{} is outside 0 to {}", std::string_view(key), kMaxSize));
      }
      if (key == "pattern" && value.is_string()) check_regex(value.get_string());
      if (key == "patternProperties" && value.is_object()) {
        for (const auto& [pattern, ignored] : value.get_object()) check_regex(pattern);
      }
      check_schema(value);
    }
  }
}

}  // namespace mxgpt::chat
