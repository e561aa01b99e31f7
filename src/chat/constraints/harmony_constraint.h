// Constrains gpt-oss to the Harmony format: it cannot sample a malformed header, a tool that does
// not exist, or an answer where a call is required.
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

/// The messages that may answer one request. Shared by its choices.
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

  /// `vocabulary` is the model's size, which may exceed the tokenizer's.
  HarmonyConstraintSpec(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                        int64_t vocabulary, Options options);

 private:
  friend class HarmonyConstraint;

  enum class Kind { analysis, commentary, final, tool_call };
  struct Outcome {
    Kind kind;
    const Grammar* grammar;  ///< null: any text
  };
  /// The headers form a tree of tokens, between `<|start|>assistant` and `<|message|>`.
  struct Node {
    std::map<text::TokenId, int> next;  ///< child index by token
    std::optional<Outcome> outcome;     ///< the header is complete, and this message begins
  };

  void add_header(const std::vector<std::vector<text::TokenId>>& parts, Outcome outcome);
  std::vector<text::TokenId> encode(const std::string& text) const;

  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  Options options_;
  std::vector<uint32_t> text_mask_;     // all tokens but control tokens
  std::vector<text::TokenId> opening_;  // <|start|>assistant
  std::vector<Node> nodes_{Node()};     // the root first
};

/// For one choice, whose prompt ends in `<|start|>assistant`. Two messages of one kind do not
/// follow each other, so reasoning leads to an answer or a call.
std::unique_ptr<engine::TokenConstraint> make_harmony_constraint(
    std::shared_ptr<const HarmonyConstraintSpec> spec);

}  // namespace mxgpt::chat
