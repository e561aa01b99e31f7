// What follows from a format's definition in plain C++: dequantize, and the matrix tiles that every
// other instruction set is tested against.
//
// A quantized format F has:  Block, kElements, kScales (of a group: 1, or 2, one a half),
// kHasOffset, kRange (largest q less the smallest), kName, kGgmlType and
//   static constexpr void unpack(const Block&, int group, Group&);   group in [0, kElements / 32)
// A floating-point format F has:  Block (one element), kName, kGgmlType and
//   static constexpr float value(Block);
// Both are constexpr so that the same function decodes blocks on a GPU
// (backend/cuda/generic/gemm.cuh).
#pragma once

#include <cmath>

#include "quant/float_bits.h"
#include "quant/format.h"

namespace mxgpt::quant {

/// 32 consecutive elements: element i is scale[i / 16] · q[i] + offset[i / 16].
/// Formats without kHasOffset leave `offset` unset.
struct UnpackedGroup {
  int8_t q[kQuantGroup];
  float scale[2];
  float offset[2];
};

/// A table of sixteen small integers as two words, which a GPU looks up without memory; `word` 0
/// has the first eight.
constexpr uint64_t packed_table(const int8_t (&values)[16], int word) {
  uint64_t packed = 0;
  for (int i = 7; i >= 0; --i) packed = packed << 8 | static_cast<uint8_t>(values[word * 8 + i]);
  return packed;
}

template <class F>
concept QuantizedFormat = requires(const typename F::Block& b, UnpackedGroup& g) {
  F::unpack(b, 0, g);
};

template <class F>
constexpr int elements_per_block() {
  if constexpr (QuantizedFormat<F>)
    return F::kElements;
  else
    return 1;
}

/// Whether kernels multiply q, less the smallest, by bytes of activations: where sums of such
/// products fit in 16 bits, and are of a whole group.
template <class F>
constexpr bool int8_activations() {
  if constexpr (QuantizedFormat<F>)
    return F::kRange < 32 && F::kScales == 1;
  else
    return false;
}

/// Element i of an unpacked group.
template <class F>
constexpr float dequantized_element(const UnpackedGroup& g, int i) {
  const float product = g.scale[i / 16] * static_cast<float>(g.q[i]);
  if constexpr (F::kHasOffset)
    return product + g.offset[i / 16];
  else
    return product;
}

template <class F>
void dequantize(const std::byte* blocks, int64_t elements, float* out) {
  const auto* block = reinterpret_cast<const typename F::Block*>(blocks);
  if constexpr (QuantizedFormat<F>) {
    for (int64_t at = 0; at < elements; at += F::kElements, ++block) {
      for (int g = 0; g < F::kElements / kQuantGroup; ++g) {
        UnpackedGroup group;
        F::unpack(*block, g, group);
        for (int i = 0; i < kQuantGroup; ++i) *out++ = dequantized_element<F>(group, i);
      }
    }
  } else {
    for (int64_t at = 0; at < elements; ++at) *out++ = F::value(*block++);
  }
}

MXGPT_ALWAYS_INLINE int64_t activation_row(const GemmArgs& p, int64_t token) {
  return p.row_indices ? p.row_indices[token] : token;
}

/// A sum as the accumulator keeps it.
template <AccumType kAccum>
float round_accumulator(float sum) {
  return kAccum == AccumType::f16 ? f16_to_f32(f32_to_f16(sum)) : sum;
}

template <class F, AccumType kAccum>
void matmul_f32_reference(const GemmArgs& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const auto* row = reinterpret_cast<const typename F::Block*>(p.weights + r * p.row_bytes);
    for (int64_t t = 0; t < p.tokens; ++t) {
      const float* x = p.x + activation_row(p, t) * p.k;
      float sum = 0;
      if constexpr (QuantizedFormat<F>) {
        for (int64_t at = 0; at < p.k; at += kQuantGroup) {
          UnpackedGroup group;
          F::unpack(row[at / F::kElements], static_cast<int>(at % F::kElements) / kQuantGroup,
                    group);
          for (int i = 0; i < kQuantGroup; ++i) sum += dequantized_element<F>(group, i) * x[at + i];
          sum = round_accumulator<kAccum>(sum);
        }
      } else {
        for (int64_t i = 0; i < p.k; ++i) {
          sum += F::value(row[i]) * x[i];
          if (i % kQuantGroup == kQuantGroup - 1 || i == p.k - 1)
            sum = round_accumulator<kAccum>(sum);
        }
      }
      p.out[t * p.out_stride + r] = sum;
    }
  }
}

template <QuantizedFormat F, AccumType kAccum>
void matmul_int16_reference(const GemmArgs& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const auto* row = reinterpret_cast<const typename F::Block*>(p.weights + r * p.row_bytes);
    for (int64_t t = 0; t < p.tokens; ++t) {
      const int64_t xr = activation_row(p, t);
      float sum = 0;
      for (int64_t at = 0; at < p.k; at += kQuantGroup) {
        UnpackedGroup group;
        F::unpack(row[at / F::kElements], static_cast<int>(at % F::kElements) / kQuantGroup, group);
        const int16_t* x = p.x_int16.q + xr * p.k + at;
        const float x_scale = p.x_int16.scale[(xr * p.k + at) / kQuantGroup];
        constexpr int kSubBlock = kQuantGroup / F::kScales;
        for (int part = 0; part < F::kScales; ++part) {
          int32_t dot = 0;
          for (int i = part * kSubBlock; i < (part + 1) * kSubBlock; ++i)
            dot += group.q[i] * x[interleaved_index(i)];
          sum = std::fma(group.scale[part] * x_scale, static_cast<float>(dot), sum);
        }
        if constexpr (F::kHasOffset) {
          const float* x_sum = p.x_int16.sum + (xr * p.k + at) / 16;
          for (int part = 0; part < F::kScales; ++part) {
            const float of_part = F::kScales == 1 ? x_sum[0] + x_sum[1] : x_sum[part];
            sum = std::fma(group.offset[part], of_part, sum);
          }
        }
        sum = round_accumulator<kAccum>(sum);
      }
      p.out[t * p.out_stride + r] = sum;
    }
  }
}

template <class F>
void matmul_f32_reference(const GemmArgs& p) {
  p.accum_type == AccumType::f16 ? matmul_f32_reference<F, AccumType::f16>(p)
                                 : matmul_f32_reference<F, AccumType::f32>(p);
}

template <QuantizedFormat F>
void matmul_int16_reference(const GemmArgs& p) {
  p.accum_type == AccumType::f16 ? matmul_int16_reference<F, AccumType::f16>(p)
                                 : matmul_int16_reference<F, AccumType::f32>(p);
}

template <class F>
constexpr GemmKernels reference_kernels() {
  GemmKernels kernels{.matmul_f32 = matmul_f32_reference<F>, .matmul_int16 = nullptr};
  if constexpr (QuantizedFormat<F>) kernels.matmul_int16 = matmul_int16_reference<F>;
  return kernels;
}

}  // namespace mxgpt::quant
#if defined(__x86_64__)
#define MXGPT_X86_KERNELS(folder) &folder##_avx2, &folder##_avx512
#else
#define MXGPT_X86_KERNELS(folder) nullptr, nullptr
#endif

/// In formats/<folder>/<folder>.cpp: the traits row of the format F. `quantizer` is a function or
/// nullptr.
#define MXGPT_DEFINE_FORMAT(folder, F, quantizer)                        \
  namespace mxgpt::quant::formats {                                      \
  extern const GemmKernels folder##_avx2, folder##_avx512;               \
  static constexpr GemmKernels folder##_scalar = reference_kernels<F>(); \
  extern constinit const FormatTraits folder##_traits{                   \
      F::kName,                                                          \
      F::kGgmlType,                                                      \
      elements_per_block<F>(),                                           \
      static_cast<int>(sizeof(F::Block)),                                \
      int8_activations<F>(),                                             \
      dequantize<F>,                                                     \
      quantizer,                                                         \
      {&folder##_scalar, MXGPT_X86_KERNELS(folder)}};                    \
  }
