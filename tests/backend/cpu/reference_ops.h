// Ops in double, and what they work on: weights in any format, batches.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "backend/cpu/backend.h"
#include "support/random_values.h"

namespace mxgpt::cpu {

/// A weight in any format, with the values it stands for.
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

inline std::vector<double> normed(const float* x, const Weight& weight) {
  double squares = 0;
  for (int64_t i = 0; i < kHidden; ++i) squares += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(squares / kHidden + 1e-5);
  std::vector<double> h(kHidden);
  for (int64_t i = 0; i < kHidden; ++i) h[i] = x[i] * scale * weight.values[i];
  return h;
}

inline std::vector<double> linear(const std::vector<double>& x, const Weight& w, const Weight* bias,
                                  int64_t slice = 0) {
  std::vector<double> y(w.tensor.rows);
  for (int64_t r = 0; r < w.tensor.rows; ++r) {
    for (int64_t i = 0; i < w.tensor.k; ++i) y[r] += x[i] * w.at(slice, r, i);
    if (bias) y[r] += bias->values[slice * w.tensor.rows + r];
  }
  return y;
}

/// A batch of `tokens` rows of one sequence, positions from `first`.
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
