// The messages of a chat request, as the model's format takes them.
#pragma once

#include <string>
#include <vector>

#include "server/fields.h"
#include "text/chat_format.h"
#include "text/harmony/chat.h"

namespace mxgpt::server {

extern const Fields kMessageFields;

/// Harmony's conversation: the system and developer messages in front become its instructions,
/// reasoning_content an analysis message, each call a message that its result follows.
/// `response_format` is Harmony's section of that name, or empty. Throws ApiError naming the field
/// for a tool message that answers no call, a call without an answer, and messages out of order.
harmony::Conversation harmony_messages(const json::Node& messages, harmony::ChatSetup setup,
                                       const std::string& response_format);

/// Turns of text. Throws ApiError for tools.
std::vector<ChatMessage> turn_messages(const json::Node& messages);

}  // namespace mxgpt::server
