// Regular expressions in tokenizer files. They use Oniguruma's Ruby syntax, as the `tokenizers`
// package does, and are translated to PCRE2 with JIT.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer/function_ref.h"

struct pcre2_real_code_8;

namespace mxgpt::tokenizer {

/// The PCRE2 equivalent of an Oniguruma pattern. Throws Error at `where` for constructs that PCRE2
/// cannot express.
std::string translate_oniguruma(std::string_view pattern, const std::string& where);

/// Immutable; safe to share between threads.
class Regex {
 public:
  /// `where` names the pattern's field in errors, thrown here or while matching.
  Regex(std::string_view pattern, std::string where);

  /// Calls `found(begin, end)` for each match, left to right, without overlap; an empty match
  /// directly after the previous match is skipped. `text` is valid UTF-8. Throws Error if matching
  /// exceeds the backtracking limit.
  void for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  /// Whether the pattern matches anywhere in `text`.
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
