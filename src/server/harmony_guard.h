// Keeps a model that speaks Harmony to the format while it samples: a malformed header, a tool that
// does not exist, an answer where a call was demanded cannot be drawn.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/text_grammar.h"
#include "text/harmony/encoding.h"

namespace mxgpt::server {

/// What the answers to one request may be. Shared by its choices.
class HarmonyRules {
 public:
  struct Function {
    std::string name;
    std::shared_ptr<const TextGrammar> arguments;  ///< null: any text
  };
  struct Options {
    std::vector<Function> functions;  ///< that may be called
    bool must_call = false;
    std::shared_ptr<const TextGrammar> final_text;  ///< null: any text
  };

  /// `vocabulary` is the model's, which may exceed the tokenizer's.
  HarmonyRules(std::shared_ptr<const harmony::HarmonyEncoding> encoding, int64_t vocabulary,
               Options options);

 private:
  friend class HarmonyGuard;

  enum class Kind { analysis, preamble, final, call };
  struct Outcome {
    Kind kind;
    const TextGrammar* grammar;  ///< null: any text
  };
  /// A tree of the headers, token by token, between `<|start|>assistant` and `<|message|>`.
  struct Node {
    std::map<TokenId, int> next;     ///< by token, the number of a node
    std::optional<Outcome> outcome;  ///< the message begins
  };

  void add(const std::vector<std::vector<TokenId>>& parts, Outcome outcome);
  std::vector<TokenId> encode(const std::string& text) const;

  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  Options options_;
  std::vector<uint32_t> text_;       // mask of all tokens but control tokens
  std::vector<TokenId> opening_;     // <|start|>assistant
  std::vector<Node> nodes_{Node()};  // the root first
};

/// Of one choice, whose prompt ends in `<|start|>assistant`. It never demands more of one kind of
/// message than one in a row: reasoning goes on to an answer or a call.
std::unique_ptr<TokenConstraint> guard_harmony(std::shared_ptr<const HarmonyRules> rules);

/// Of a choice in another format: text that the grammar allows, then one of `stop_tokens`.
/// `free_until`: the token that ends reasoning, before which all is free; nothing: no reasoning.
std::unique_ptr<TokenConstraint> guard_plain(std::shared_ptr<const TextGrammar> grammar,
                                             std::vector<TokenId> stop_tokens,
                                             std::optional<TokenId> free_until);

}  // namespace mxgpt::server
