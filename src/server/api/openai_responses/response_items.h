// Items of /v1/responses: messages, reasoning, function calls and their outputs.
#pragma once

#include <string>
#include <vector>

#include "chat/prepare_chat.h"

namespace mxgpt::server {

/// Converts the items and appends them. `field` names the list for errors, "input". Throws ApiError
/// naming the field.
void read_items(const json::Node& items, const std::string& field,
                std::vector<chat::ChatItem>& out);

/// The input of a request in the form that is stored and listed: items with a type, an id and a
/// list of content parts. `input` is a string, or items that satisfy the schema.
json::array normalize_items(const json::value& input);

}  // namespace mxgpt::server
