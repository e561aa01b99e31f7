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
#include "server/text_grammar.h"

namespace mxgpt::server {

/// Thread-safe.
class Grammars {
 public:
  /// `vocabulary` is the model's; control tokens of the tokenizer are part of no text. `max_time`:
  /// that compiling may take, and that one who asks waits for those before him.
  Grammars(std::shared_ptr<const Tokenizer> tokenizer, bool byte_level, int64_t vocabulary,
           std::chrono::milliseconds max_time = std::chrono::seconds(5));
  ~Grammars();

  /// These throw ApiError: a 400 that names `param` and the fault, or a 429 while others' take too
  /// long. Objects have no members but
  /// those that the schema names, unless it says so.
  std::shared_ptr<const TextGrammar> json_schema(const json::value& schema,
                                                 const std::string& param);
  std::shared_ptr<const TextGrammar> regex(const std::string& pattern, const std::string& param);
  /// In GBNF, whose first rule is "root".
  std::shared_ptr<const TextGrammar> ebnf(const std::string& grammar, const std::string& param);

  /// Grammars kept, and about how many bytes they take.
  struct Kept {
    size_t count = 0, bytes = 0;
  };
  Kept kept() const;

 private:
  enum class Kind { json_schema, regex, ebnf };
  struct Entry {
    std::string key;
    std::shared_ptr<const TextGrammar> grammar;
    size_t bytes;
  };
  class Compiler;

  std::shared_ptr<const TextGrammar> compile(Kind kind, const std::string& text,
                                             const std::string& param);
  std::shared_ptr<const TextGrammar> find(const std::string& key);
  void keep(Entry entry);

  const std::chrono::milliseconds max_time_;
  std::shared_ptr<Compiler> compiler_;  // outlives us while it still compiles
  mutable std::mutex mutex_;            // of all below
  std::list<Entry> entries_;            // the latest used first
  size_t bytes_ = 0;
};

}  // namespace mxgpt::server
