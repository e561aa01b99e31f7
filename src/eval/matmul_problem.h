// Matrix product test cases with double-precision results: the reference for every GEMM kernel, in
// the tests and in `mxgpt validate --kernels`.
//
// Error bounds are those of floating-point summation. A result with n roundings of unit u = 2^-24
// is within n u / (1 - n u) of the exact one, relative to the sum of the terms' magnitudes (Higham,
// Accuracy and Stability of Numerical Algorithms, section 3.1). If rounding errors are independent,
// it is within λ √n u except for a fraction 2 exp(-λ² / 2) of results (Higham & Mary 2019); λ = 8
// here. Each term that may underflow adds 2^-149.
#pragma once

#include <algorithm>
#include <numeric>

#include "eval/random_weights.h"
#include "kernels/cpu/gemm.h"

namespace mxgpt::eval {

/// Offset of 16-bit activation i within a row of interleaved groups.
inline int64_t interleaved_offset(int64_t i) {
  return i / quant::kQuantGroup * quant::kQuantGroup +
         kernels::interleaved_index(static_cast<int>(i % quant::kQuantGroup));
}

struct MatmulProblem {
  quant::Format format;
  int64_t rows, tokens, k;
  std::vector<std::byte> weights = {};    ///< [rows][k]
  std::vector<float> weight_values = {};  ///< dequantized
  std::vector<float> x = {};              ///< [tokens][k]
  /// 16-bit activations, independent of x; empty if k is not a multiple of the group size.
  std::vector<int16_t> q = {};  ///< interleaved
  std::vector<float> scale = {}, sum = {};
  std::vector<int32_t> total = {};
  std::vector<kernels::OutlierSplitGroup> outlier_blocks =
      {};  ///< empty unless split_outliers() was called

  /// Arguments for the first `some_rows` rows and `some_tokens` tokens; out[token * stride + row].
  kernels::GemmArgs tile(int64_t some_rows, int64_t some_tokens, float* out, int64_t stride) const {
    return {.weights = weights.data(),
            .row_bytes = quant::traits(format).row_bytes(k),
            .rows = some_rows,
            .k = k,
            .x = x.data(),
            .x_int16 = {.q = q.data(),
                        .scale = scale.data(),
                        .sum = sum.data(),
                        .q_sum = total.data(),
                        .outlier_split = outlier_blocks.empty() ? nullptr : outlier_blocks.data()},
            .row_indices = nullptr,
            .tokens = some_tokens,
            .out = out,
            .out_stride = stride};
  }

  /// Fills x with normal numbers of this standard deviation, and the 16-bit activations with values
  /// of about that size. The first four tokens of the latter hold the extremes (largest sums of
  /// products) and zeros.
  void add_activations(float size, Random& random) {
    std::normal_distribution<float> normal(0, size);
    x.resize(tokens * k);
    for (auto& v : x) v = normal(random);
    if (k % quant::kQuantGroup) return;
    q.resize(tokens * k);
    scale.resize(q.size() / quant::kQuantGroup);
    for (auto& v : q)
      v = static_cast<int16_t>(static_cast<int>(random() % (2 * kernels::kMaxInt16Activation + 1)) -
                               kernels::kMaxInt16Activation);
    for (int64_t t = 0; t < std::min<int64_t>(tokens, 4); ++t) {
      for (int64_t i = 0; i < k; ++i) {
        const int16_t extremes[] = {kernels::kMaxInt16Activation, -kernels::kMaxInt16Activation,
                                    static_cast<int16_t>(i % 2 ? kernels::kMaxInt16Activation
                                                               : -kernels::kMaxInt16Activation),
                                    0};
        q[t * k + i] = extremes[t];
      }
    }
    for (auto& v : scale) v = std::abs(normal(random)) / (64 * 256);
    compute_sums();
  }

  /// Keeps two runs of four activations per group (possibly the same twice) as outliers and shrinks
  /// the others. In the first tokens, sums of low bytes reach their maximum.
  void split_outliers(Random& random) {
    outlier_blocks.assign(q.size() / quant::kQuantGroup, {});
    constexpr int kMaxLow = kernels::kMaxLowSum / 16;
    for (size_t g = 0; g < outlier_blocks.size(); ++g) {
      kernels::OutlierSplitGroup& group = outlier_blocks[g];
      for (uint16_t& quad : group.outlier_offset) quad = static_cast<uint16_t>(random() % 8 * 4);
      for (int i = 0; i < quant::kQuantGroup; ++i) {
        int16_t& value = q[interleaved_offset(static_cast<int64_t>(g) * quant::kQuantGroup + i)];
        const int quad = i / 4 * 4;
        const bool outlier = quad == group.outlier_offset[0] || quad == group.outlier_offset[1];
        const int low = std::clamp<int>(static_cast<int8_t>(value), -kMaxLow, kMaxLow);
        const int high = outlier ? value / 256 : 0;
        value = static_cast<int16_t>(low + 256 * high);
        group.low[i] = static_cast<int8_t>(low);
        if (outlier)
          group.outlier_high[quad == group.outlier_offset[0] ? 0 : 1][i % 4] =
              static_cast<int8_t>(high);
      }
    }
    compute_sums();
  }

  /// Computes the sums that follow from q and scale.
  void compute_sums() {
    total.resize(q.size() / 16);
    sum.resize(total.size());
    for (size_t i = 0; i < sum.size(); ++i) {
      total[i] = std::accumulate(&q[i * 16], &q[i * 16] + 16, 0);
      sum[i] = scale[i / 2] * static_cast<float>(total[i]);
    }
    for (size_t g = 0; g < outlier_blocks.size(); ++g) {
      outlier_blocks[g].set_sums(scale[g], {sum[2 * g], sum[2 * g + 1]},
                                 {total[2 * g], total[2 * g + 1]});
    }
  }
};

/// Weights of similar magnitude, so that no product overflows or vanishes.
inline MatmulProblem moderate_problem(quant::Format format, int64_t rows, int64_t tokens,
                                      int64_t k) {
  Random random(static_cast<unsigned>(k));
  const quant::FormatTraits& t = quant::traits(format);
  MatmulProblem p{.format = format, .rows = rows, .tokens = tokens, .k = k};
  p.weights = random_blocks(format, rows * k, 0x1p-10f, 0x1p20f, random);
  // Rows of a single repeated byte, if finite and moderate: extremes of q, including -128 of Q8_0.
  int64_t row = 0;
  for (int byte : {0x80, 0x7b, 0x08, 0x77, 0xf8}) {
    if (row == rows) break;
    const float largest = magnitude(
        dequantized(format, std::vector<std::byte>(t.block_bytes, static_cast<std::byte>(byte))));
    if (!(largest > 0x1p-20f && largest < 0x1p20f)) continue;
    std::fill_n(p.weights.begin() + row++ * t.row_bytes(k), t.row_bytes(k),
                static_cast<std::byte>(byte));
  }
  p.weight_values = dequantized(format, p.weights);
  p.add_activations(1, random);
  return p;
}

/// No sum exceeds the range of f16, for either kind of activations.
inline MatmulProblem f16_problem(quant::Format format, int64_t rows, int64_t tokens, int64_t k) {
  Random random(static_cast<unsigned>(k));
  MatmulProblem p{.format = format, .rows = rows, .tokens = tokens, .k = k};
  p.weights = random_blocks(format, rows * k, 0x1p-6f, 0x1p6f, random);
  p.weight_values = dequantized(format, p.weights);
  p.add_activations(0x1p-4f, random);
  return p;
}

/// Weights of any finite magnitude, including subnormal and maximal ones, with activations so small
/// that no sum overflows.
inline MatmulProblem extreme_problem(quant::Format format, int64_t rows, int64_t tokens,
                                     int64_t k) {
  Random random(7);
  MatmulProblem p{.format = format, .rows = rows, .tokens = tokens, .k = k};
  p.weights = random_blocks(format, rows * k, 0, INFINITY, random);
  p.weight_values = dequantized(format, p.weights);
  p.add_activations(0x1p-16f, random);
  return p;
}

/// Exact results [tokens][rows], the sums of the terms' magnitudes, and the error bound of a kernel
/// that accumulates in f32.
struct ExactMatmul {
  std::vector<double> value, magnitude, bound;

  void add(double sum, double magnitudes, double roundings, double underflow) {
    const double e = std::min(roundings, 8 * std::sqrt(roundings)) * 0x1p-24;
    value.push_back(sum);
    magnitude.push_back(magnitudes);
    bound.push_back(e / (1 - e) * magnitudes + underflow);
  }
};

inline ExactMatmul exact_f32(const MatmulProblem& p) {
  ExactMatmul e;
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t r = 0; r < p.rows; ++r) {
      double sum = 0, magnitudes = 0;
      for (int64_t i = 0; i < p.k; ++i) {
        const double term = double{p.weight_values[r * p.k + i]} * double{p.x[t * p.k + i]};
        sum += term;
        magnitudes += std::abs(term);
      }
      // Roundings: one product if not fused, k sums, and a few partial accumulators.
      const auto k = static_cast<double>(p.k);
      e.add(sum, magnitudes, k + 4, k * 0x1p-149);
    }
  }
  return e;
}

/// Terms of each weight: scale · q, and the offset of each half group. Computed by the scalar
/// kernel, which ignores totals, on one-hot activations.
struct WeightTerms {
  std::vector<float> product;  ///< [rows][k]
  std::vector<float> offset;   ///< [rows][k / 16]
};

inline WeightTerms weight_terms(quant::Format format, const std::vector<std::byte>& weights) {
  const quant::FormatTraits& t = quant::traits(format);
  const int64_t n = t.block_elements;
  std::vector<int16_t> q(n * n, 0), no_q(n * n, 0);
  for (int64_t i = 0; i < n; ++i) q[i * n + interleaved_offset(i)] = 1;
  const std::vector<float> ones(n * n / quant::kQuantGroup, 1.0f), no_sum(n * n / 16, 0.0f);
  std::vector<float> sum((n / 16) * (n / 16), 0.0f);
  for (int64_t i = 0; i < n / 16; ++i) sum[i * (n / 16) + i] = 1;

  const size_t blocks = weights.size() / t.block_bytes;
  WeightTerms terms{std::vector<float>(blocks * n), std::vector<float>(blocks * n / 16)};
  for (size_t block = 0; block < blocks; ++block) {
    kernels::GemmArgs tile{
        .weights = weights.data() + block * t.block_bytes,
        .row_bytes = t.block_bytes,
        .rows = 1,
        .k = n,
        .x = nullptr,
        .x_int16 = {.q = q.data(), .scale = ones.data(), .sum = no_sum.data(), .q_sum = nullptr},
        .row_indices = nullptr,
        .tokens = n,
        .out = &terms.product[block * n],
        .out_stride = 1};
    const auto& kernels = kernels::gemm_kernels(format, kernels::Isa::scalar);
    kernels.matmul_int16(tile);
    tile.x_int16 = {.q = no_q.data(), .scale = ones.data(), .sum = sum.data(), .q_sum = nullptr};
    tile.tokens = n / 16;
    tile.out = &terms.offset[block * n / 16];
    kernels.matmul_int16(tile);
  }
  return terms;
}

inline ExactMatmul exact_int16(const MatmulProblem& p) {
  const WeightTerms w = weight_terms(p.format, p.weights);
  ExactMatmul e;
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t r = 0; r < p.rows; ++r) {
      double sum = 0, magnitudes = 0;
      for (int64_t i = 0; i < p.k; ++i) {
        const int64_t x = t * p.k + i;
        const double term = double{w.product[r * p.k + i]} *
                            double{p.scale[x / quant::kQuantGroup]} * p.q[interleaved_offset(x)];
        sum += term;
        magnitudes += std::abs(term);
      }
      for (int64_t i = 0; i < p.k / 16; ++i) {
        const double term = double{w.offset[r * p.k / 16 + i]} * double{p.sum[t * p.k / 16 + i]};
        sum += term;
        magnitudes += std::abs(term);
      }
      // Sums: at most four per group. Products: two, one of them in `w.product` here. Two
      // conversions and the sum of two x.sum may round as well. A product of scales that underflows
      // is multiplied by sums of products up to 2^7 · 2^15.
      const auto k = static_cast<double>(p.k);
      e.add(sum, magnitudes, k / 8 + 7, k * 128 * 32768 * 0x1p-149);
    }
  }
  return e;
}

}  // namespace mxgpt::eval
