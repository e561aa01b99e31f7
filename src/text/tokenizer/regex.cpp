#include "text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

// Backtracking limits of one search: count and memory. Real patterns backtrack over each character
// a few times, for instance in runs of capitals or spaces, but not exponentially.
constexpr size_t kMatchLimitBase = 1'000'000, kMatchLimitPerByte = 16;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackStart = 32 << 10, kJitStackLimit = 16 << 20;
constexpr size_t kMaxPatternBytes = 64 << 10;

/// Per-thread match state: one result slot (the whole match) and a JIT stack.
struct MatchContext {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr);

  MatchContext() {
    if (!data || !context) throw std::bad_alloc();
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  MatchContext(const MatchContext&) = delete;
  MatchContext& operator=(const MatchContext&) = delete;
  ~MatchContext() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

MatchContext& thread_match_context() {
  thread_local MatchContext matcher;
  return matcher;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[200];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

void Regex::FreeCode::operator()(pcre2_code* code) const {
  pcre2_code_free(code);
}

Regex::Regex(std::string_view pattern, std::string where) : where_(std::move(where)) {
  if (pattern.size() > kMaxPatternBytes) {
    throw Error(where_, fmt::format("regular expression has {} bytes; the limit is {}",
                                    pattern.size(), kMaxPatternBytes));
  }
  const std::string translated = translate_oniguruma(pattern, where_);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, context.get()));
  if (!code_) {
    throw Error(where_, fmt::format("invalid regular expression: {} (in '{}' near byte {})",
                                    pcre2_message(error), escape_for_terminal(translated), at));
  }
  // Without JIT (if the kernel forbids executable pages) the pattern is interpreted.
  jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

bool Regex::search(std::string_view text, size_t from, size_t& begin, size_t& end) const {
  MatchContext& match = thread_match_context();
  const size_t limit = kMatchLimitBase + kMatchLimitPerByte * (text.size() - from);
  pcre2_set_match_limit(match.context, static_cast<uint32_t>(std::min<size_t>(limit, UINT32_MAX)));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int result = jit_ ? pcre2_jit_match(code_.get(), subject, text.size(), from,
                                            PCRE2_NO_UTF_CHECK, match.data, match.context)
                          : pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                        match.data, match.context);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw Error(where_, fmt::format("matching this text failed: {}", pcre2_message(result)),
                "shorten the text, or use a tokenizer with a simpler pattern");
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
  begin = range[0];
  end = range[1];
  // \K in a lookahead can report a match that ends before it begins.
  if (begin > end) throw Error(where_, "the pattern reports a match that ends before it begins");
  return true;
}

void Regex::for_each_match(std::string_view original,
                           FunctionRef<void(size_t, size_t)> found) const {
  std::string buffer;
  const std::string_view text = text::unicode::with_older_equivalents(original, buffer);
  size_t from = 0, last_end = std::string_view::npos, begin = 0, end = 0;
  while (from <= text.size() && search(text, from, begin, end)) {
    if (begin == end && end == last_end) {
      if (from == text.size()) return;
      from += text::unicode::length_of(text[from]);
      continue;
    }
    // A lookbehind with \K can report a match before the end of the previous one.
    if (last_end != std::string_view::npos && begin < last_end) {
      throw Error(where_, "the pattern reports overlapping matches");
    }
    found(begin, end);
    from = last_end = end;
  }
}

bool Regex::matches(std::string_view text) const {
  std::string buffer;
  size_t begin, end;
  return search(text::unicode::with_older_equivalents(text, buffer), 0, begin, end);
}

}  // namespace mxgpt::tokenizer
