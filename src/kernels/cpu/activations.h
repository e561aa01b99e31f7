// Quantized activations of the CPU's matrix products: 16-bit integers, and their split into 8-bit
// integers plus outliers.
#pragma once

#include <cstdint>

#include "base/attributes.h"
#include "quant/block_format.h"

namespace mxgpt::kernels {

/// Position of element i within a group of 16-bit activations. Each half of the group stores its
/// even elements first, then its odd ones: the order in which a mask and a shift separate the bytes
/// of the weights.
constexpr int interleaved_index(int i) {
  return i / 16 * 16 + i % 2 * 8 + i % 16 / 2;
}

/// Largest magnitude of a 16-bit activation: 127 · 256 + 127, so that q = 256 · high + low with two
/// signed bytes.
inline constexpr int kMaxInt16Activation = 32639;

/// Outliers per group, in units of four consecutive elements (one dword of bytes).
inline constexpr int kOutlierDwords = 2;

/// Largest kRange of weights that are multiplied by 8-bit activations. A 16-bit lane then sums two
/// products per dword over four dwords without overflow, whatever the bytes.
inline constexpr int kMaxInt8Range = 31;
static_assert(4 * 2 * kMaxInt8Range * 128 <= INT16_MAX);

/// Upper bound of Σ |low| over the sixteen low bytes that one 16-bit lane accumulates. Unsigned
/// weights up to 24 (MXFP4) then sum up over a whole group without overflow.
inline constexpr int kMaxLowSum = 1365;
static_assert(24 * kMaxLowSum <= INT16_MAX);

/// A group of 16-bit activations split into 8-bit integers and outliers: q = low + 256 · high,
/// where `high` is zero except in kOutlierDwords dwords. It is the outlier decomposition of
/// LLM.int8() (Dettmers et al. 2022) on the scale of a group. One cache line holds everything that
/// a kernel needs.
struct alignas(64) OutlierSplitGroup {
  /// In the order of k. A 16-bit multiply-add lane sums elements 0 and 1 of every dword, or
  /// elements 2 and 3: for either, Σ |low| <= kMaxLowSum.
  int8_t low[quant::kQuantGroup];
  int8_t outlier_high[kOutlierDwords][4];
  /// First element of each outlier dword. Unused entries name any dword and have zeros in
  /// outlier_high.
  uint16_t outlier_offset[kOutlierDwords];
  int32_t bias_products[3];  ///< 8, 12 and 16 times Σ q, for weights stored as q + 8, 12 or 16
  float scale;               ///< as in Int16Activations
  float sum;                 ///< scale · Σ q over the whole group

  MXGPT_ALWAYS_INLINE void set_sums(float scale_of_q, const float (&sums)[2],
                                    const int32_t (&q_sums)[2]) {
    scale = scale_of_q;
    sum = sums[0] + sums[1];
    // Unsigned, because the sums of a group with NaN are arbitrary and may wrap.
    const uint32_t q_sum = static_cast<uint32_t>(q_sums[0]) + static_cast<uint32_t>(q_sums[1]);
    for (int i = 0; i < 3; ++i)
      bias_products[i] = static_cast<int32_t>(q_sum * static_cast<uint32_t>(8 + 4 * i));
  }
  /// bias · Σ q for a bias of 8, 12 or 16.
  MXGPT_ALWAYS_INLINE int32_t bias_product(int bias) const { return bias_products[bias / 4 - 2]; }
};
static_assert(sizeof(OutlierSplitGroup) == 64);

/// Activations as 16-bit integers: x ≈ scale · q in groups of 32, |q| <= kMaxInt16Activation. They
/// are rounded to the full 16 bits or, for weights with int8_activations(), so that all but the two
/// largest dwords of a group fit in 8 bits. Plain 8-bit activations change too many answers of the
/// models (docs/numerics.md), because a few large values dictate the step.
struct Int16Activations {
  const int16_t* q;      ///< [rows][k], each group in the order of interleaved_index
  const float* scale;    ///< [rows][k / 32]
  const float* sum;      ///< [rows][k / 16]: scale · Σ q per half group, for formats with offsets
  const int32_t* q_sum;  ///< [rows][k / 16]: Σ q per half group, for weights stored as q + bias
  /// [rows][k / 32]: the same q, split; null if it was rounded to 16 bits.
  const OutlierSplitGroup* outlier_split = nullptr;
};

/// Whether products with the weights of F take outlier-split activations: F needs a small range of
/// q and one scale per group.
template <class F>
constexpr bool int8_activations() {
  if constexpr (quant::QuantizedFormat<F>)
    return F::kRange <= kMaxInt8Range && F::kScales == 1;
  else
    return false;
}

}  // namespace mxgpt::kernels
