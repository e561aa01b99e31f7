// A chat request, whatever its source: the terminal or one of the server's APIs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "chat/constraints/grammar.h"
#include "engine/sampler.h"
#include "text/chat/harmony/conversation.h"

namespace mxgpt::chat {

/// One entry of a conversation.
struct ChatItem {
  enum class Kind {
    instructions,  ///< from the application
    user,
    reasoning,   ///< of the assistant; dropped once its turn has ended in an answer
    commentary,  ///< what the assistant says before it calls a tool
    assistant,   ///< the assistant's answer
    tool_call,
    tool_result,
  };
  Kind kind;
  std::string text;   ///< of a call, its arguments
  std::string field;  ///< in the request, for errors: "messages[2]"
  std::string id;     ///< pairs a call with its result
  std::string name;   ///< of a call, the function's
};

/// The functions that the model may call.
struct ToolConfig {
  std::vector<harmony::ToolDescription> declared;  ///< shown to the model
  std::vector<std::string> allowed;                ///< names of those that may be called
  bool call_required = false;

  /// Declares functions in the JSON of harmony::functions_from_json(). All are allowed.
  void declare(const json::Node& functions);
  void declare(std::vector<harmony::ToolDescription> functions);
  void disable();
  /// Requires a call of one of these. Throws RequestError naming `field` for an unknown name.
  void require(std::vector<std::string> names, const std::string& field);
  /// Requires a call. Throws RequestError if no tool is declared.
  void require_any(const std::string& field);
};

/// The form of the answer. Reasoning is not constrained.
struct ResponseFormat {
  std::string instructions;                ///< a section of Harmony's instructions; may be empty
  std::shared_ptr<const Grammar> grammar;  ///< null: any text
};

struct ChatRequest {
  std::string field;  ///< the request's name for `items`, for errors: "messages"
  std::vector<ChatItem> items;
  ToolConfig tools;
  ResponseFormat format;
  std::optional<harmony::ReasoningEffort> effort;
  bool reasoning = true;  ///< false: answer without reasoning, if the chat format has a switch
  std::vector<std::string> stops;
  /// Leave out the oldest turns if the prompt would leave too little of the context.
  bool truncate = false;

  int choices = 1;
  std::optional<int64_t> max_tokens;  ///< per choice; absent: until the context is full
  engine::SamplingParams sampling;
  std::optional<int> top_logprobs;  ///< absent: no log-probabilities
};

}  // namespace mxgpt::chat
