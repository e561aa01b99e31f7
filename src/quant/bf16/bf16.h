// BF16: the upper half of an IEEE 754 single, little-endian.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Bf16 {
  using Block = uint16_t;
  static constexpr std::string_view kName = "BF16";
  static constexpr uint32_t kGgmlType = 30;
  MXGPT_ALWAYS_INLINE static constexpr float value(Block element) { return bf16_to_f32(element); }
};

}  // namespace mxgpt::quant
