// From a conversation to an engine request and output parsers.
#pragma once

#include <memory>
#include <vector>

#include "chat/chat_model.h"
#include "chat/chat_request.h"
#include "chat/output_parser.h"
#include "engine/request.h"

namespace mxgpt::chat {

struct PreparedChat {
  engine::Request request;  ///< complete except for priority, deadline and cache salt
  std::vector<std::unique_ptr<OutputParser>> parsers;  ///< [choices]
};

/// Throws RequestError naming a field of `request` that the model's chat format cannot honor, Error
/// if the model has no known chat format.
void check_features(const ChatModel& model, const ChatRequest& request);

/// Renders the conversation and builds constraints, stop rules and parsers. `context` is the
/// engine's, in tokens. Instructions at the start of a conversation become those of the format.
///
/// Throws RequestError naming the field: for a tool result without a call, a call without a result,
/// items out of order, a grammar that cannot be compiled; and what check_features() throws.
PreparedChat prepare_chat(const ChatModel& model, const ChatRequest& request, int64_t context);

}  // namespace mxgpt::chat
