// Grammars by xgrammar, the only part of mxgpt that knows it.
//
// xgrammar's parser takes time that grows with the ambiguity of a grammar, from microseconds to
// minutes per mask. Its work is therefore counted in parser states (cmake/XGrammar.cmake adds the
// counter). A mask within kInlineWork is computed in place; one beyond is computed on a background
// thread, up to kMaxMaskWork. The limits are counts, not times, so a request's outcome does not
// depend on the load of the machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/task_thread.h"
#include "chat/constraints/grammar.h"

namespace mxgpt::chat {

inline constexpr int64_t kInlineWork = 32'768;         ///< parser states: up to a few milliseconds
inline constexpr int64_t kMaxMaskWork = 50'000'000;    ///< per mask: up to a few seconds
inline constexpr int64_t kMaxTextWork = 20'000'000;    ///< per text, for its own tokens
inline constexpr int64_t kMaxPositionStates = 10'000;  ///< per byte of a text; bounds memory

enum class GrammarKind { json_schema, regex, gbnf };

class Xgrammar {
 public:
  /// `vocabulary` is the model's size; control tokens of the tokenizer are part of no text.
  /// `mask_thread` computes the masks that take long.
  Xgrammar(const text::Tokenizer& tokenizer, bool byte_level, int64_t vocabulary,
           std::shared_ptr<TaskThread> mask_thread);
  ~Xgrammar();

  struct Compiled {
    std::shared_ptr<const Grammar> grammar;
    size_t bytes = 0;  ///< approximate memory
  };
  /// One call at a time. Objects have no members but those that a schema names, unless it says so.
  /// Throws std::exception for a faulty source, and soon after `cancelled` becomes true.
  /// `on_timeout` is called, from any thread, when a mask exceeds its budget.
  Compiled compile(GrammarKind kind, const std::string& source, const std::atomic<bool>& cancelled,
                   std::function<void()> on_timeout);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxgpt::chat
