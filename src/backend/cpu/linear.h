// Linear layers on the CPU: jobs of out = x · Wᵀ, cut into chunks of rows that all threads share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "backend/ops.h"
#include "base/arena.h"
#include "base/threads.h"

namespace mxgpt::cpu {

/// Input rows of linear layers: f32, and a 16-bit copy where a quantized weight may use one.
class Activations {
 public:
  /// Takes room for the 16-bit copy of `max_elements`, rows times k, from `arena`, which outlives
  /// it.
  Activations(int64_t max_elements, Precision precision, Arena& arena);

  /// Refers to x [rows][k], which must live until the jobs have run. Makes the 16-bit copy if
  /// `weights` use one, in bytes if a format among them is made for that; all that read one set of
  /// activations have the same kind of format.
  void set(const float* x, int64_t rows, int64_t k, std::span<const Tensor> weights);
  /// The same where make(row) has yet to write a row of x: it is rounded while it is in the cache.
  template <class F>
  void set(const float* x, int64_t rows, int64_t k, std::span<const Tensor> weights,
           const F& make) {
    const bool rounds = refer(x, rows, k, weights);
    parallel_ranges(rows, rows_at_once(k), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        make(row);
        if (rounds) round(row);
      }
    });
  }

  /// Rows worth being handed to a thread, where each number costs a nanosecond.
  static int64_t rows_at_once(int64_t k) { return std::max<int64_t>(1, 4096 / k); }

  bool uses_q16(const Tensor& weight) const;
  const float* x() const { return x_; }
  Q16Activations q16() const {
    return {q_.data(), scale_.data(), sum_.data(), total_.data(),
            in_bytes_ ? bytes_.data() : nullptr};
  }
  int64_t rows() const { return rows_; }

 private:
  /// Whether there is to be a 16-bit copy.
  bool refer(const float* x, int64_t rows, int64_t k, std::span<const Tensor> weights);
  void round(int64_t row);

  Precision precision_;
  std::span<int16_t> q_;
  std::span<float> scale_, sum_;
  std::span<int32_t> total_;
  std::span<ByteGroup> bytes_;
  bool in_bytes_ = false;
  const float* x_ = nullptr;
  int64_t rows_ = 0, k_ = 0;
};

/// out[t][r] = x[x_rows[t]] · weight[slice][r] + bias[slice][r]; then, where `residual` is given,
/// residual[t][r] += out[t][r].
struct LinearJob {
  Linear linear;
  int64_t slice = 0;
  const int32_t* x_rows = nullptr;  ///< [tokens], or null for all rows of the activations
  int64_t tokens = 0;
  float* out = nullptr;       ///< [tokens][linear.weight.rows]
  float* residual = nullptr;  ///< [tokens][linear.weight.rows], or null
};

/// Runs the jobs, all on the same activations, and returns when they are done.
void run(std::span<const LinearJob> jobs, const Activations& activations,
         Accumulate accumulate = Accumulate::f32);

}  // namespace mxgpt::cpu
