// Messages of /v1/chat/completions.
#pragma once

#include <vector>

#include "base/json.h"
#include "chat/prepare_chat.h"

namespace mxgpt::server {

/// Throws ApiError naming the field.
std::vector<chat::ChatItem> read_messages(const json::Node& messages);

}  // namespace mxgpt::server
