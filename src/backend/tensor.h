// Views of weights, as backends read them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

namespace mxgpt::backend {

/// A view of a weight in the memory of one backend, owned by its loader. A missing optional weight
/// has no data.
struct Tensor {
  quant::Format format = quant::Format::f32;
  const std::byte* data = nullptr;
  int64_t num_experts = 1;  ///< 1 except for experts
  int64_t rows = 0;         ///< output features
  int64_t k = 0;            ///< input features, contiguous; length of a vector
  uint8_t layout = 0;  ///< 0: as in files; other values are private to the backend that packed it

  explicit operator bool() const { return data != nullptr; }
  int64_t row_bytes() const { return quant::traits(format).row_bytes(k); }
  const std::byte* expert(int64_t i) const { return data + i * rows * row_bytes(); }
  /// Norm weights, biases and sinks, which are always f32 after loading. [num_experts][k]
  const float* f32(int64_t i = 0) const { return reinterpret_cast<const float*>(data) + i * k; }

  /// Rows [first, first + count) of a single matrix, such as Q of a fused QKV projection.
  Tensor row_range(int64_t first, int64_t count) const {
    return {format, data ? data + first * row_bytes() : nullptr, 1, count, k};
  }
  /// Elements [first, first + count) of an f32 vector.
  Tensor element_range(int64_t first, int64_t count) const {
    return {format, data ? data + first * sizeof(float) : nullptr, 1, 1, count};
  }
};

/// y = x · weightᵀ + bias. The bias is optional.
struct Linear {
  Tensor weight;  ///< [num_experts][rows][k]
  Tensor bias;    ///< [num_experts][rows], f32
};

}  // namespace mxgpt::backend
