// Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax), which the
// `tokenizers` package uses, and run on PCRE2 with JIT after a translation of what the two read
// differently.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer/function_ref.h"

struct pcre2_real_code_8;

namespace mxgpt::tokenizer {

/// The PCRE2 pattern with the meaning that `pattern` has for Oniguruma. Throws Error with `where`
/// for constructs that PCRE2 cannot express.
std::string translate_oniguruma(std::string_view pattern, const std::string& where);

/// Immutable; safe to share between threads.
class Regex {
 public:
  /// `where` names the pattern's field in the Error that a bad pattern throws, now or while
  /// matching.
  Regex(std::string_view pattern, std::string where);

  /// Calls `found(begin, end)` for each match, left to right, without overlap; an empty match
  /// directly behind the previous match does not count. `text` is valid UTF-8. Throws Error when
  /// the text drives the pattern into more backtracking than is allowed.
  void for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  /// Whether the pattern matches somewhere in `text`.
  bool matches(std::string_view text) const;

 private:
  bool search(std::string_view text, size_t from, size_t& begin, size_t& end) const;

  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  bool jit_ = false;
  std::string where_;
};

}  // namespace mxgpt::tokenizer
