// Constrains answers to a grammar in chat formats without headers.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "chat/constraints/grammar.h"
#include "engine/request.h"

namespace mxgpt::chat {

/// For one choice: text that the grammar allows, then one of `stop_tokens`. Everything up to
/// `reasoning_end`, the token that ends reasoning, is free; nullopt if there is no reasoning.
std::unique_ptr<engine::TokenConstraint> make_grammar_constraint(
    std::shared_ptr<const Grammar> grammar, std::vector<text::TokenId> stop_tokens,
    std::optional<text::TokenId> reasoning_end);

}  // namespace mxgpt::chat
