// The definition of a format: its block, its decoding, and what plain C++ derives from them.
//
// A quantized format F defines
//   Block       the block as stored
//   kElements   elements per block, a multiple of 32
//   kScales     scales per group of 32: 1, or 2 with one per half
//   kHasOffset  whether a group adds an offset
//   kRange      the largest q minus the smallest
//   kName, kGgmlType
//   static constexpr void unpack(const Block&, int group, UnpackedGroup&);  group < kElements / 32
// A floating-point format F defines Block (one element), kName, kGgmlType and
//   static constexpr float value(Block);
// Both functions are constexpr, so that CUDA kernels call them too (backend/cuda/generic/gemm.cuh).
#pragma once

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

/// Eight of sixteen table entries packed into a register, so that a GPU looks them up without
/// touching memory. `word` 0 holds the first eight.
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

}  // namespace mxgpt::quant

/// Defines the traits of format F in quant/<folder>/<folder>.cpp. `quantizer` is a function or
/// nullptr.
#define MXGPT_DEFINE_FORMAT(folder, F, quantizer)                                               \
  namespace mxgpt::quant::formats {                                                             \
  extern constinit const FormatTraits folder##_traits{                                          \
      F::kName,      F::kGgmlType, elements_per_block<F>(), static_cast<int>(sizeof(F::Block)), \
      dequantize<F>, quantizer};                                                                \
  }
