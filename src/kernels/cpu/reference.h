// The GEMM kernels in plain C++, derived from a format's definition (quant/block_format.h). Every
// other instruction set is tested against them.
#pragma once

#include <cmath>

#include "kernels/cpu/gemm.h"
#include "quant/block_format.h"

namespace mxgpt::kernels {

using quant::kQuantGroup;

/// Rounds a running sum to the accumulator's type.
template <AccumType kAccum>
float round_accumulator(float sum) {
  return kAccum == AccumType::f16 ? quant::f16_to_f32(quant::f32_to_f16(sum)) : sum;
}

template <class F, AccumType kAccum>
void matmul_f32_reference(const GemmArgs& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const auto* row = reinterpret_cast<const typename F::Block*>(p.weights + r * p.row_bytes);
    for (int64_t t = 0; t < p.tokens; ++t) {
      const float* x = p.x + activation_row(p, t) * p.k;
      float sum = 0;
      if constexpr (quant::QuantizedFormat<F>) {
        for (int64_t at = 0; at < p.k; at += kQuantGroup) {
          quant::UnpackedGroup group;
          F::unpack(row[at / F::kElements], static_cast<int>(at % F::kElements) / kQuantGroup,
                    group);
          for (int i = 0; i < kQuantGroup; ++i)
            sum += quant::dequantized_element<F>(group, i) * x[at + i];
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

template <quant::QuantizedFormat F, AccumType kAccum>
void matmul_int16_reference(const GemmArgs& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const auto* row = reinterpret_cast<const typename F::Block*>(p.weights + r * p.row_bytes);
    for (int64_t t = 0; t < p.tokens; ++t) {
      const int64_t xr = activation_row(p, t);
      float sum = 0;
      for (int64_t at = 0; at < p.k; at += kQuantGroup) {
        quant::UnpackedGroup group;
        F::unpack(row[at / F::kElements], static_cast<int>(at % F::kElements) / kQuantGroup, group);
        const int16_t* x = p.x_int16.q + xr * p.k + at;
        const float x_scale = p.x_int16.scale[(xr * p.k + at) / kQuantGroup];
        constexpr int kPerScale = kQuantGroup / F::kScales;  // elements
        for (int s = 0; s < F::kScales; ++s) {
          int32_t dot = 0;
          for (int i = s * kPerScale; i < (s + 1) * kPerScale; ++i)
            dot += group.q[i] * x[interleaved_index(i)];
          sum = std::fma(group.scale[s] * x_scale, static_cast<float>(dot), sum);
        }
        if constexpr (F::kHasOffset) {
          const float* x_sum = p.x_int16.sum + (xr * p.k + at) / 16;
          for (int s = 0; s < F::kScales; ++s) {
            const float x_part = F::kScales == 1 ? x_sum[0] + x_sum[1] : x_sum[s];
            sum = std::fma(group.offset[s], x_part, sum);
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

template <quant::QuantizedFormat F>
void matmul_int16_reference(const GemmArgs& p) {
  p.accum_type == AccumType::f16 ? matmul_int16_reference<F, AccumType::f16>(p)
                                 : matmul_int16_reference<F, AccumType::f32>(p);
}

template <class F>
constexpr GemmKernels reference_kernels() {
  GemmKernels kernels{.matmul_f32 = matmul_f32_reference<F>,
                      .matmul_int16 = nullptr,
                      .int8_activations = int8_activations<F>()};
  if constexpr (quant::QuantizedFormat<F>) kernels.matmul_int16 = matmul_int16_reference<F>;
  return kernels;
}

}  // namespace mxgpt::kernels

/// Defines the scalar kernels of format F in quant/<folder>/<folder>_scalar.cpp.
#define MXGPT_DEFINE_SCALAR(folder, F)                                                       \
  namespace mxgpt::kernels::formats {                                                        \
  extern constinit const GemmKernels folder##_scalar = reference_kernels<mxgpt::quant::F>(); \
  }
