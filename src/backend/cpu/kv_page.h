// How the CPU keeps one KV head's page of a layer, kPageTokens rows of head_dim in some format.
//
// Values: the rows, one after the other. Keys: transposed, because scores are then sums of whole
// vectors of tokens:
//   floating-point formats   [head_dim][kPageTokens]
//   q8_0                     for each 32 dimensions: scales [kPageTokens], f16, then
//                            [32][kPageTokens] bytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/batch.h"
#include "quant/format.h"

namespace mxgpt::cpu {

/// `row` is as the format has it; its page has place for it at `slot`.
void store_key(quant::Format format, int64_t head_dim, const std::byte* row, int64_t slot,
               std::byte* page);
/// The reverse.
void load_key(quant::Format format, int64_t head_dim, const std::byte* page, int64_t slot,
              std::byte* row);

}  // namespace mxgpt::cpu
