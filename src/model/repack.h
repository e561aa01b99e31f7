// Converts layouts of checkpoints to mxgpt's own (that of GGUF files): contiguous rows of k.
// Elements keep their format. Each function states the input shape and fills `out`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mxgpt::model::repack {

/// Rows of k elements; every stride-th row from `start` belongs to the tensor.
struct StridedRows {
  int64_t num_experts, rows, k;
  int64_t start = 0, stride = 1;
};

/// Input: [experts][rows * stride][k]
void select_rows(std::span<const std::byte> in, const StridedRows& rows, size_t element_bytes,
                 std::byte* out);

/// Input: [experts][k][rows * stride]
void transpose(std::span<const std::byte> in, const StridedRows& rows, size_t element_bytes,
               std::byte* out);

/// MXFP4 of the released checkpoints to GGUF blocks. Input: `blocks` [experts][rows * stride][k /
/// 32][16], `scales` without the last dimension.
void mxfp4(std::span<const std::byte> blocks, std::span<const std::byte> scales,
           const StridedRows& rows, std::byte* out);

/// [heads][2][head_dim / 2][row_bytes] to [heads][head_dim / 2][2][row_bytes]: rows of a rotated
/// pair become adjacent.
void interleave_rope_pairs(std::span<const std::byte> in, int64_t heads, int64_t head_dim,
                           size_t row_bytes, std::byte* out);

}  // namespace mxgpt::model::repack
