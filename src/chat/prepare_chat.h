// What a model is asked, whatever API the client speaks: the way to a prompt, constraints and
// readers is the same for all.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/output_parser.h"
#include "chat/response_format.h"
#include "engine/request.h"
#include "server/api/served_model.h"
#include "text/chat/harmony/conversation.h"

namespace mxgpt::chat {

struct ChatItem {
  enum class Kind {
    instructions,  ///< of the application
    user,
    reasoning,   ///< the assistant's; dropped once its turn has ended in an answer
    commentary,  ///< what it says before it calls a tool
    assistant,
    tool_call,
    tool_result,  ///< of a call
  };
  Kind kind;
  std::string text;   ///< of a call, its arguments
  std::string field;  ///< of the request, for errors: "messages[2]"
  std::string id;     ///< of a call, and the same of its result
  std::string name;   ///< of a call, the function's
};

/// The functions that the model may call.
struct ToolConfig {
  std::vector<harmony::ToolDescription> declared;  ///< to the model
  std::vector<std::string> allowed;                ///< their names, or some of them
  bool call_required = false;

  /// Reads what functions_from_json() takes; all may be called.
  void declare(const json::Node& functions);
  void disable();
  /// One of these must be called. Throws ApiError naming `param` for one that there is not.
  void require(std::vector<std::string> names, const std::string& param);
  /// Any must be. Throws ApiError if there is none.
  void require_any(const std::string& param);
};

struct ChatRequest {
  std::string field;  ///< of the request that has the items: "messages"
  std::vector<ChatItem> items;
  ToolConfig tools;
  ResponseFormat format;
  std::optional<harmony::ReasoningEffort> effort;
  std::vector<std::string> stops;
  bool truncate = false;  ///< leave out the oldest turns if the prompt would be too long
};

/// Fills in the prompt, stop tokens and constraints of `request`, whose choices and max_tokens are
/// set already; a reader for each choice comes back. The instructions in front become Harmony's.
///
/// Throws ApiError naming the field for a result that answers no call, a call without a result,
/// items out of order, and what the model's chat format has not.
std::vector<std::unique_ptr<OutputParser>> prepare_chat(const server::ServedModel& served,
                                                        const ChatRequest& dialog,
                                                        engine::Request& request);

}  // namespace mxgpt::chat
