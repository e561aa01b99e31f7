#include "chat/constraints/grammar_compiler.h"

#include <fmt/format.h>
#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <semaphore>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "server/api/api_error.h"

namespace mxgpt::chat {

namespace {

constexpr size_t kMaxSourceBytes = 64 << 10;  // bytes of a schema or grammar
constexpr size_t kMaxPatternBytes = 2 << 10;
constexpr int kMaxNesting = 32;      // of groups
constexpr double kMaxRepeat = 256;   // of counted repetitions, and of all that are nested together
constexpr double kMaxSize = 10'000;  // minItems, maxLength and the like
constexpr size_t kMaxRules = 1000;
constexpr size_t kMaxCachedGrammars = 128, kMaxCacheBytes = size_t{256} << 20;
constexpr int kMaxWhitespace = 16;

class XgrammarGrammar : public Grammar {
 public:
  explicit XgrammarGrammar(xgrammar::CompiledGrammar grammar) : grammar_(std::move(grammar)) {}
  std::unique_ptr<Matcher> make_matcher() const override {
    return std::make_unique<XgrammarMatcher>(grammar_);
  }

 private:
  class XgrammarMatcher : public Matcher {
   public:
    explicit XgrammarMatcher(const xgrammar::CompiledGrammar& grammar) : matcher_(grammar) {}

    void fill_mask(std::span<uint32_t> allowed) override {
      int64_t shape = static_cast<int64_t>(allowed.size());
      DLTensor tensor{.data = allowed.data(),
                      .device = {kDLCPU, 0},
                      .ndim = 1,
                      .dtype = xgrammar::GetBitmaskDLType(),
                      .shape = &shape,
                      .strides = nullptr,
                      .byte_offset = 0};
      if (!matcher_.FillNextTokenBitmask(&tensor)) std::fill(allowed.begin(), allowed.end(), ~0u);
    }
    bool is_complete() const override { return matcher_.IsCompleted(); }
    void accept(text::TokenId token) override {
      if (!matcher_.AcceptToken(token))
        throw Error("grammar", fmt::format("does not allow token {}", token));
    }

   private:
    xgrammar::GrammarMatcher matcher_;
  };

  xgrammar::CompiledGrammar grammar_;
};

/// The product of the counts that are nested in a pattern: "(a{9}){9}" is 81. Refuses what is
/// nested too deeply: compilers of patterns recurse. `is_grammar`: it has strings and comments,
/// whose brackets do not count.
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

void check_pattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    throw Error("", fmt::format("the pattern is longer than {} bytes", kMaxPatternBytes));
  if (max_repeat_product(pattern) > kMaxRepeat)
    throw Error("", fmt::format("the pattern repeats more than {} times", kMaxRepeat));
}

/// What a compiler would take too long for, or too much memory.
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
      if (key == "pattern" && value.is_string()) check_pattern(value.get_string());
      if (key == "patternProperties" && value.is_object()) {
        for (const auto& [pattern, ignored] : value.get_object()) check_pattern(pattern);
      }
      check_schema(value);
    }
  }
}

}  // namespace

/// xgrammar's, which cannot be interrupted: what takes too long goes on, alone, and until it has
/// come to its end nothing else is compiled.
class GrammarCompiler::Xgrammar {
 public:
  Xgrammar(const text::Tokenizer& tokenizer, bool byte_level, int64_t vocabulary)
      : tokens_(spellings(tokenizer),
                byte_level ? xgrammar::VocabType::BYTE_LEVEL : xgrammar::VocabType::BYTE_FALLBACK,
                static_cast<int>(vocabulary), std::vector<int32_t>{}),
        compiler_(tokens_, 1, false) {}

  xgrammar::CompiledGrammar compile(Kind kind, const std::string& text) {
    switch (kind) {
      case Kind::json_schema:
        return compiler_.CompileJSONSchema(text, true, std::nullopt, std::nullopt, true,
                                           kMaxWhitespace);
      case Kind::regex:
        return compiler_.CompileRegex(text);
      case Kind::ebnf:
        return compiler_.CompileGrammar(text);
    }
    return compiler_.CompileBuiltinJSONGrammar();
  }

  std::binary_semaphore slot{1};

 private:
  static std::vector<std::string> spellings(const text::Tokenizer& tokenizer) {
    std::vector<std::string> out;
    for (text::TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
      // Without a spelling, xgrammar takes a token for a control token.
      out.emplace_back(tokenizer.is_special(token) ? std::string_view()
                                                   : tokenizer.id_to_token(token));
    }
    return out;
  }

  xgrammar::TokenizerInfo tokens_;
  xgrammar::GrammarCompiler compiler_;
};

GrammarCompiler::GrammarCompiler(std::shared_ptr<const text::Tokenizer> tokenizer, bool byte_level,
                                 int64_t vocabulary, std::chrono::milliseconds max_time)
    : max_time_(max_time),
      xgrammar_(std::make_shared<Xgrammar>(*tokenizer, byte_level, vocabulary)) {}

GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::json_schema(const json::value& schema,
                                                            const std::string& param) {
  const std::string text = json::serialize(schema);
  if (auto found = find("schema " + text)) return found;
  try {
    check_schema(schema);
  } catch (const Error& e) {
    throw server::ApiError(400, fmt::format("{}: {}", param, e.what()), param, "invalid_schema");
  }
  return compile(Kind::json_schema, text, param);
}

std::shared_ptr<const Grammar> GrammarCompiler::regex(const std::string& pattern,
                                                      const std::string& param) {
  try {
    check_pattern(pattern);
  } catch (const Error& e) {
    throw server::ApiError(400, fmt::format("{}: {}", param, e.what()), param, "invalid_regex");
  }
  return compile(Kind::regex, pattern, param);
}

std::shared_ptr<const Grammar> GrammarCompiler::ebnf(const std::string& grammar,
                                                     const std::string& param) {
  size_t rules = 0;
  for (size_t at = grammar.find("::="); at != grammar.npos; at = grammar.find("::=", at + 1))
    ++rules;
  try {
    if (rules > kMaxRules) throw Error("", fmt::format("has more than {} rules", kMaxRules));
    if (max_repeat_product(grammar, true) > kMaxRepeat)
      throw Error("", fmt::format("repeats more than {} times", kMaxRepeat));
  } catch (const Error& e) {
    throw server::ApiError(400, fmt::format("{}: {}", param, e.what()), param, "invalid_grammar");
  }
  return compile(Kind::ebnf, grammar, param);
}

std::shared_ptr<const Grammar> GrammarCompiler::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(cache_.begin(), cache_.end(),
                                  [&](const CacheEntry& entry) { return entry.key == key; });
  if (found == cache_.end()) return nullptr;
  cache_.splice(cache_.begin(), cache_, found);
  return found->grammar;
}

void GrammarCompiler::insert(CacheEntry entry) {
  const std::lock_guard lock(mutex_);
  cache_bytes_ += entry.bytes;
  cache_.push_front(std::move(entry));
  while (cache_.size() > kMaxCachedGrammars ||
         (cache_bytes_ > kMaxCacheBytes && cache_.size() > 1)) {
    cache_bytes_ -= cache_.back().bytes;
    cache_.pop_back();
  }
}

GrammarCompiler::CacheStats GrammarCompiler::cache_stats() const {
  const std::lock_guard lock(mutex_);
  return {cache_.size(), cache_bytes_};
}

std::shared_ptr<const Grammar> GrammarCompiler::compile(Kind kind, const std::string& text,
                                                        const std::string& param) {
  static constexpr const char* kNames[] = {"schema", "regex", "grammar"};
  const std::string name = kNames[static_cast<int>(kind)];
  const std::string key = name + " " + text;
  if (auto found = find(key)) return found;
  const auto fail = [&](const std::string& message) {
    return server::ApiError(400, fmt::format("{}: the {} {}", param, name, message), param,
                            "invalid_" + name);
  };
  if (text.size() > kMaxSourceBytes)
    throw fail(fmt::format("is longer than {} bytes", kMaxSourceBytes));

  if (!xgrammar_->slot.try_acquire_for(max_time_)) {
    server::ApiError error(429, "others have much to compile; try again", {}, "grammars_busy");
    error.retry_after = 5;
    throw error;
  }
  std::promise<xgrammar::CompiledGrammar> promise;
  auto result = promise.get_future();
  std::thread([compiler = xgrammar_, kind, text, promise = std::move(promise)]() mutable {
    try {
      promise.set_value(compiler->compile(kind, text));
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
    compiler->slot.release();
  }).detach();
  if (result.wait_for(max_time_) != std::future_status::ready)
    throw fail(fmt::format("takes longer than {} ms to compile", max_time_.count()));
  try {
    const xgrammar::CompiledGrammar compiled = result.get();
    auto grammar = std::make_shared<const XgrammarGrammar>(compiled);
    insert({key, grammar, compiled.MemorySizeBytes() + key.size()});
    return grammar;
  } catch (const std::exception& e) {
    throw fail(fmt::format("cannot be used: {}", escape_for_terminal(e.what(), 500)));
  }
}

}  // namespace mxgpt::chat
