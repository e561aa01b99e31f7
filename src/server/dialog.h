// What a model is asked, whatever API the client speaks: the way to a prompt, constraints and
// readers is the same for all.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/reader.h"
#include "server/response_format.h"
#include "server/served.h"
#include "text/harmony/conversation.h"

namespace mxgpt::server {

struct DialogItem {
  enum class Kind {
    instructions,  ///< of the application
    user,
    reasoning,  ///< the assistant's; dropped once its turn has ended in an answer
    preamble,   ///< what it says before it calls a tool
    answer,
    call,
    result,  ///< of a call
  };
  Kind kind;
  std::string text;   ///< of a call, its arguments
  std::string field;  ///< of the request, for errors: "messages[2]"
  std::string id;     ///< of a call, and the same of its result
  std::string name;   ///< of a call, the function's
};

/// The functions that the model may call.
struct DialogTools {
  std::vector<harmony::ToolDescription> described;  ///< to the model
  std::vector<std::string> callable;                ///< their names, or some of them
  bool must_call = false;

  /// Reads what functions_from_json() takes; all may be called.
  void describe(const json::Node& functions);
  void forbid();
  /// One of these must be called. Throws ApiError naming `param` for one that there is not.
  void demand(std::vector<std::string> names, const std::string& param);
  /// Any must be. Throws ApiError if there is none.
  void demand_any(const std::string& param);
};

struct Dialog {
  std::string field;  ///< of the request that has the items: "messages"
  std::vector<DialogItem> items;
  DialogTools tools;
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
std::vector<std::unique_ptr<ChoiceReader>> begin_dialog(const Served& served, const Dialog& dialog,
                                                        Request& request);

}  // namespace mxgpt::server
