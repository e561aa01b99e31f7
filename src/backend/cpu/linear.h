// Linear layers on the CPU: jobs of out = x · Wᵀ, cut into chunks of rows that all threads share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "backend/ops.h"
#include "base/arena.h"
#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"

namespace mxgpt::cpu {

/// Input rows of linear layers: f32, and a 16-bit copy where a quantized weight may use one.
class Activations {
 public:
  /// Takes room for the 16-bit copy of `max_elements`, rows times k, from `arena`, which outlives
  /// it.
  Activations(int64_t max_elements, backend::Precision precision, Arena& arena);

  /// Refers to x [rows][k], which must live until the jobs have run. Makes the 16-bit copy if
  /// `weights` use one, in bytes if a format among them is made for that; all that read one set of
  /// activations have the same kind of format.
  void bind_and_quantize(const float* x, int64_t rows, int64_t k,
                         std::span<const backend::Tensor> weights);
  /// The same where make(row) has yet to write a row of x: it is rounded while it is in the cache.
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

  /// Rows worth being handed to a thread, where each number costs a nanosecond.
  static int64_t grain_rows(int64_t k) { return std::max<int64_t>(1, 4096 / k); }

  bool uses_int16(const backend::Tensor& weight) const;
  const float* x() const { return x_; }
  kernels::Int16Activations quantized() const {
    return {q_.data(), scale_.data(), sum_.data(), total_.data(),
            outlier_split_ ? outlier_blocks_.data() : nullptr};
  }
  int64_t rows() const { return rows_; }

 private:
  /// Whether there is to be a 16-bit copy.
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

/// out[t][r] = x[x_rows[t]] · weight[slice][r] + bias[slice][r]; then, where `residual` is given,
/// residual[t][r] += out[t][r].
struct GemmTask {
  backend::Linear linear;
  int64_t expert = 0;
  const int32_t* row_indices = nullptr;  ///< [tokens], or null for all rows of the activations
  int64_t tokens = 0;
  float* out = nullptr;       ///< [tokens][linear.weight.rows]
  float* residual = nullptr;  ///< [tokens][linear.weight.rows], or null
};

/// Runs the jobs, all on the same activations, and returns when they are done.
void run_gemm_tasks(std::span<const GemmTask> jobs, const Activations& activations,
                    kernels::AccumType accumulate = kernels::AccumType::f32);

}  // namespace mxgpt::cpu
