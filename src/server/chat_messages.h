// The messages of /v1/chat/completions.
#pragma once

#include <vector>

#include "server/dialog.h"
#include "server/fields.h"

namespace mxgpt::server {

extern const Fields kMessageFields;

/// Throws ApiError naming the field.
std::vector<DialogItem> read_messages(const json::Node& messages);

}  // namespace mxgpt::server
