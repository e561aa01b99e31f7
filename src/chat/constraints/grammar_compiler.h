// Compiles JSON schemas, regular expressions and grammars into constraints on tokens.
//
// Compilation runs on one thread, within limits on size and time. Results are cached, and the least
// recently used are evicted first.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/task_thread.h"
#include "chat/constraints/grammar.h"

namespace mxgpt::chat {

struct GrammarCompilerOptions {
  /// How long compilation may take, and how long a caller waits for those before it.
  std::chrono::milliseconds max_time = std::chrono::seconds(5);
  TaskThread::Starter start_thread = TaskThread::start_std_thread;  ///< replaced by tests
};

/// Thread-safe.
class GrammarCompiler {
 public:
  /// `vocabulary` is the model's size; control tokens of the tokenizer are part of no text.
  GrammarCompiler(std::shared_ptr<const text::Tokenizer> tokenizer, bool byte_level,
                  int64_t vocabulary, GrammarCompilerOptions options = {});
  ~GrammarCompiler();

  /// These throw RequestError naming `field`: for a faulty source, one over the limits, or, with
  /// Kind::busy, while compilation for others takes too long. Objects have no members but those
  /// that the schema names, unless it says so.
  std::shared_ptr<const Grammar> json_schema(const json::value& schema, const std::string& field);
  std::shared_ptr<const Grammar> regex(const std::string& pattern, const std::string& field);
  /// GBNF, whose first rule is "root".
  std::shared_ptr<const Grammar> ebnf(const std::string& grammar, const std::string& field);

  struct CacheStats {
    size_t count = 0;
    size_t bytes = 0;  ///< approximate
  };
  CacheStats cache_stats() const;

 private:
  class Cache;
  struct Slot;
  struct Source;

  std::shared_ptr<const Grammar> compile(const Source& source, const std::string& field,
                                         const std::function<void()>& check);

  const std::chrono::milliseconds max_time_;
  std::shared_ptr<Cache> cache_;
  std::shared_ptr<Slot> slot_;
  std::shared_ptr<class Xgrammar> xgrammar_;  // also held by a compilation that was given up
  TaskThread compile_thread_;                 // the last member: it uses all others
};

}  // namespace mxgpt::chat
