// Weights as a backend's ops see them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

namespace mxgpt::backend {

/// A view of weights in the memory of one backend; who loaded them owns them (model/weights.h).
/// Absent optional weights are a Tensor without data.
struct Tensor {
  quant::Format format = quant::Format::f32;
  const std::byte* data = nullptr;
  int64_t num_experts = 1;  ///< experts; 1 for everything else
  int64_t rows = 0;         ///< output features
  int64_t k = 0;            ///< input features, contiguous; of a vector, its length
  uint8_t layout = 0;  ///< 0: blocks as files have them; else an order of one backend, which alone
                       ///< reads it

  explicit operator bool() const { return data != nullptr; }
  int64_t row_bytes() const { return quant::traits(format).row_bytes(k); }
  const std::byte* expert(int64_t i) const { return data + i * rows * row_bytes(); }
  /// Norm weights, biases, sinks: always f32 after loading. [slices][k]
  const float* f32(int64_t i = 0) const { return reinterpret_cast<const float*>(data) + i * k; }

  /// Rows [first, first + count) of a matrix without slices: of a fused projection, one of its
  /// parts.
  Tensor row_range(int64_t first, int64_t count) const {
    return {format, data ? data + first * row_bytes() : nullptr, 1, count, k};
  }
  /// Elements [first, first + count) of an f32 vector.
  Tensor element_range(int64_t first, int64_t count) const {
    return {format, data ? data + first * sizeof(float) : nullptr, 1, 1, count};
  }
};

/// y = x · weightᵀ + bias. The bias may be absent.
struct Linear {
  Tensor weight;  ///< [slices][rows][k]
  Tensor bias;    ///< [slices][rows], f32
};

}  // namespace mxgpt::backend
