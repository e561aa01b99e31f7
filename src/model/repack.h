// From the layouts of checkpoints to mxgpt's own (that of GGUF files): rows of k, one after the
// other. Elements keep their format; each function states the shape it reads and fills `out`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mxgpt::model::repack {

/// Rows of k elements, of which every stride-th from `start` on belongs to the tensor.
struct StridedRows {
  int64_t num_experts, rows, k;
  int64_t start = 0, stride = 1;
};

/// [slices][rows * stride][k]
void select_rows(std::span<const std::byte> in, const StridedRows& rows, size_t element_bytes,
                 std::byte* out);

/// [slices][k][rows * stride]
void transpose(std::span<const std::byte> in, const StridedRows& rows, size_t element_bytes,
               std::byte* out);

/// MXFP4 of the released checkpoints: `blocks` [slices][rows * stride][k / 32][16], `scales`
/// without the last dimension; to blocks as GGUF files have them.
void mxfp4(std::span<const std::byte> blocks, std::span<const std::byte> scales,
           const StridedRows& rows, std::byte* out);

/// [heads][2][head_dim / 2][row_bytes] to [heads][head_dim / 2][2][row_bytes]: the rows of a
/// rotated pair side by side.
void interleave_rope_pairs(std::span<const std::byte> in, int64_t heads, int64_t head_dim,
                           size_t row_bytes, std::byte* out);

}  // namespace mxgpt::model::repack
