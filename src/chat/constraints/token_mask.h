// Masks of allowed tokens: bit t % 32 of word t / 32 for token t.
#pragma once

#include <cstdint>
#include <span>

#include "text/tokenizer/tokenizer.h"

namespace mxgpt::chat {

inline void allow(std::span<uint32_t> allowed, text::TokenId token) {
  allowed[static_cast<size_t>(token) / 32] |= uint32_t{1} << (token % 32);
}

}  // namespace mxgpt::chat
