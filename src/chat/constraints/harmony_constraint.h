// Keeps a model that speaks Harmony to the format while it samples: a malformed header, a tool that
// does not exist, an answer where a call was demanded cannot be drawn.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/constraints/grammar.h"
#include "engine/request.h"
#include "text/chat/harmony/encoding.h"

namespace mxgpt::chat {

/// What the answers to one request may be. Shared by its choices.
class HarmonyConstraintSpec {
 public:
  struct Function {
    std::string name;
    std::shared_ptr<const Grammar> arguments;  ///< null: any text
  };
  struct Options {
    std::vector<Function> functions;  ///< that may be called
    bool call_required = false;
    std::shared_ptr<const Grammar> final_grammar;  ///< null: any text
  };

  /// `vocabulary` is the model's, which may exceed the tokenizer's.
  HarmonyConstraintSpec(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                        int64_t vocabulary, Options options);

 private:
  friend class HarmonyConstraint;

  enum class Kind { analysis, commentary, final, tool_call };
  struct Outcome {
    Kind kind;
    const Grammar* grammar;  ///< null: any text
  };
  /// A tree of the headers, token by token, between `<|start|>assistant` and `<|message|>`.
  struct Node {
    std::map<text::TokenId, int> next;  ///< by token, the number of a node
    std::optional<Outcome> outcome;     ///< the message begins
  };

  void add_header(const std::vector<std::vector<text::TokenId>>& parts, Outcome outcome);
  std::vector<text::TokenId> encode(const std::string& text) const;

  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  Options options_;
  std::vector<uint32_t> text_mask_;     // mask of all tokens but control tokens
  std::vector<text::TokenId> opening_;  // <|start|>assistant
  std::vector<Node> nodes_{Node()};     // the root first
};

/// Of one choice, whose prompt ends in `<|start|>assistant`. It never demands more of one kind of
/// message than one in a row: reasoning goes on to an answer or a call.
std::unique_ptr<engine::TokenConstraint> make_harmony_constraint(
    std::shared_ptr<const HarmonyConstraintSpec> spec);

/// Of a choice in another format: text that the grammar allows, then one of `stop_tokens`.
/// `free_until`: the token that ends reasoning, before which all is free; nothing: no reasoning.
std::unique_ptr<engine::TokenConstraint> make_grammar_constraint(
    std::shared_ptr<const Grammar> grammar, std::vector<text::TokenId> stop_tokens,
    std::optional<text::TokenId> reasoning_end);

}  // namespace mxgpt::chat
