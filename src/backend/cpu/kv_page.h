// Layout of one KV head's page in the CPU's cache: kPageTokens rows of head_dim in a KV format.
//
// Values are stored row by row. Keys are transposed, so that scores are sums over vectors of
// tokens:
//   floating-point formats   [head_dim][kPageTokens]
//   q8_0                     for each 32 dimensions: scales [kPageTokens], f16, then
//                            [32][kPageTokens] bytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/batch.h"
#include "quant/format.h"

namespace mxgpt::cpu {

/// Stores a row of `format` at `slot` of a page.
void store_key(quant::Format format, int64_t head_dim, const std::byte* row, int64_t slot,
               std::byte* page);
/// Reads the row at `slot` of a page.
void load_key(quant::Format format, int64_t head_dim, const std::byte* page, int64_t slot,
              std::byte* row);

}  // namespace mxgpt::cpu
