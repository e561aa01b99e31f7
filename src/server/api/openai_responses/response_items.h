// The items of /v1/responses: what a conversation is made of there.
#pragma once

#include <string>
#include <vector>

#include "chat/prepare_chat.h"
#include "server/api/schema.h"

namespace mxgpt::server {

extern const Variants kItemVariants;

/// Appends what the items say. `field` names the list for errors: "input". Throws ApiError naming
/// the field.
void read_items(const json::Node& items, const std::string& field,
                std::vector<chat::ChatItem>& out);

/// A request's input as items that have their type, an id and a list of contents, as they are kept
/// and listed. `input` is a text, or items that the fields' table has passed.
json::array normalize_items(const json::value& input);

}  // namespace mxgpt::server
