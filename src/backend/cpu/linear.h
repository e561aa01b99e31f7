// Linear layers on the CPU: GEMM tasks, out = x · Wᵀ, split into chunks of weight rows for all
// threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "backend/ops.h"
#include "base/arena.h"
#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"

namespace mxgpt::cpu {

/// Input rows of linear layers: f32, with a quantized copy for weights whose kernels use one.
class Activations {
 public:
  /// Allocates the quantized copy of `max_elements` = rows · k from `arena`, which must outlive
  /// this.
  Activations(int64_t max_elements, backend::Precision precision, Arena& arena);

  /// Binds x [rows][k], which must outlive the tasks, and quantizes it if `weights` use that: to
  /// int16, or to outlier-split int8 if one of their formats does. All weights that read the same
  /// activations must use the same kind.
  void bind_and_quantize(const float* x, int64_t rows, int64_t k,
                         std::span<const backend::Tensor> weights);
  /// The same, but make(row) writes each row of x first, which is quantized while in the cache.
  template <class F>
  void bind_and_quantize(const float* x, int64_t rows, int64_t k,
                         std::span<const backend::Tensor> weights, const F& make) {
    const bool rounds = bind(x, rows, k, weights);
    parallel_ranges(rows, grain_rows(k), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        make(row);
        if (rounds) quantize(row);
      }
    });
  }

  /// Rows per parallel task if an element takes about a nanosecond.
  static int64_t grain_rows(int64_t k) { return std::max<int64_t>(1, 4096 / k); }

  bool uses_int16(const backend::Tensor& weight) const;
  const float* x() const { return x_; }
  kernels::Int16Activations quantized() const {
    return {q_.data(), scale_.data(), sum_.data(), total_.data(),
            outlier_split_ ? outlier_blocks_.data() : nullptr};
  }
  int64_t rows() const { return rows_; }

 private:
  /// Returns whether a quantized copy is needed.
  bool bind(const float* x, int64_t rows, int64_t k, std::span<const backend::Tensor> weights);
  void quantize(int64_t row);

  backend::Precision precision_;
  std::span<int16_t> q_;
  std::span<float> scale_, sum_;
  std::span<int32_t> total_;
  std::span<kernels::OutlierSplitGroup> outlier_blocks_;
  bool outlier_split_ = false;
  const float* x_ = nullptr;
  int64_t rows_ = 0, k_ = 0;
};

/// out[t][r] = x[row_indices[t]] · weight[expert][r] + bias[expert][r]; then residual[t][r] +=
/// out[t][r] if `residual` is given.
struct GemmTask {
  backend::Linear linear;
  int64_t expert = 0;
  const int32_t* row_indices = nullptr;  ///< [tokens]; null: all rows in order
  int64_t tokens = 0;
  float* out = nullptr;       ///< [tokens][linear.weight.rows]
  float* residual = nullptr;  ///< [tokens][linear.weight.rows], or null
};

/// Runs the tasks, which share their activations, and returns when they are done.
void run_gemm_tasks(std::span<const GemmTask> jobs, const Activations& activations,
                    kernels::AccumType accumulate = kernels::AccumType::f32);

}  // namespace mxgpt::cpu
