// The messages of /v1/chat/completions.
#pragma once

#include <vector>

#include "chat/prepare_chat.h"
#include "server/api/schema.h"

namespace mxgpt::server {

extern const Schema kMessageSchema;

/// Throws ApiError naming the field.
std::vector<chat::ChatItem> read_messages(const json::Node& messages);

}  // namespace mxgpt::server
