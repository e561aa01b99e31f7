// Structured output: JSON schemas, regular expressions and grammars, compiled by xgrammar into
// constraints on tokens.
//
// What clients send is compiled on one thread, one after the other, within limits of size and time;
// the results are kept, the least recently used ones going first.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/json.h"
#include "chat/constraints/grammar.h"

namespace mxgpt::chat {

/// Thread-safe.
class GrammarCompiler {
 public:
  /// `vocabulary` is the model's; control tokens of the tokenizer are part of no text. `max_time`:
  /// that compiling may take, and that one who asks waits for those before him.
  GrammarCompiler(std::shared_ptr<const text::Tokenizer> tokenizer, bool byte_level,
                  int64_t vocabulary, std::chrono::milliseconds max_time = std::chrono::seconds(5));
  ~GrammarCompiler();

  /// These throw ApiError: a 400 that names `param` and the fault, or a 429 while others' take too
  /// long. Objects have no members but
  /// those that the schema names, unless it says so.
  std::shared_ptr<const Grammar> json_schema(const json::value& schema, const std::string& param);
  std::shared_ptr<const Grammar> regex(const std::string& pattern, const std::string& param);
  /// In GBNF, whose first rule is "root".
  std::shared_ptr<const Grammar> ebnf(const std::string& grammar, const std::string& param);

  /// Grammars kept, and about how many bytes they take.
  struct CacheStats {
    size_t count = 0, bytes = 0;
  };
  CacheStats cache_stats() const;

 private:
  enum class Kind { json_schema, regex, ebnf };
  struct CacheEntry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
    size_t bytes;
  };
  class Xgrammar;

  std::shared_ptr<const Grammar> compile(Kind kind, const std::string& text,
                                         const std::string& param);
  std::shared_ptr<const Grammar> find(const std::string& key);
  void insert(CacheEntry entry);

  const std::chrono::milliseconds max_time_;
  std::shared_ptr<Xgrammar> xgrammar_;  // outlives us while it still compiles
  mutable std::mutex mutex_;            // of all below
  std::list<CacheEntry> cache_;         // the latest used first
  size_t cache_bytes_ = 0;
};

}  // namespace mxgpt::chat
