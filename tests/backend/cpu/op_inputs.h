// Inputs of the op tests: weights in any format, shapes, batches. Expected results come from
// eval/reference_ops.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "backend/cpu/backend.h"
#include "eval/reference_ops.h"
#include "support/random_values.h"

namespace mxgpt::cpu {

/// A random weight in any format, with its dequantized values.
struct Weight {
  std::vector<std::byte> bytes;
  std::vector<float> values;
  backend::Tensor tensor;

  Weight(quant::Format format, int64_t slices, int64_t rows, int64_t k, uint32_t seed) {
    const auto source =
        random_normals(slices * rows * k, seed, 1 / std::sqrt(static_cast<float>(k)));
    bytes.resize(quant::traits(format).row_bytes(slices * rows * k));
    quant::traits(format).quantize(source.data(), slices * rows * k, nullptr, bytes.data());
    values.resize(source.size());
    quant::traits(format).dequantize(bytes.data(), slices * rows * k, values.data());
    tensor = {format, bytes.data(), slices, rows, k};
  }
  double at(int64_t slice, int64_t row, int64_t i) const {
    return values[(slice * tensor.rows + row) * tensor.k + i];
  }
};

inline Weight vector_weight(int64_t slices, int64_t n, uint32_t seed) {
  return Weight(quant::Format::f32, slices, 1, n, seed);
}

inline constexpr int64_t kHidden = 96, kHeads = 6, kKvHeads = 2, kHeadDim = 20, kExperts = 5,
                         kTopK = 3, kIntermediate = 64;
inline constexpr backend::MaxShapes kMaxShapes{.rows = 64,
                                               .hidden = kHidden,
                                               .max_linear_width = kHeads * kHeadDim,
                                               .intermediate = kIntermediate,
                                               .experts = kExperts,
                                               .top_k = kTopK,
                                               .heads = kHeads,
                                               .head_dim = kHeadDim};

/// A batch of `rows` tokens of one sequence, at positions from `first` on.
struct SimpleBatch {
  std::vector<int32_t> tokens, positions, sequences, pages;
  backend::Batch batch;
  SimpleBatch(int64_t rows, int64_t first = 0)
      : tokens(rows), positions(rows), sequences(rows), pages(64) {
    std::iota(tokens.begin(), tokens.end(), 3);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first));
    std::iota(pages.begin(), pages.end(), 0);
    batch = {.tokens = tokens, .positions = positions, .sequences = sequences};
    batch.tables[0] = batch.tables[1] = {pages.data(), static_cast<int64_t>(pages.size())};
  }
};

}  // namespace mxgpt::cpu
