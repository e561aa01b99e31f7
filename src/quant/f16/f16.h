// F16: IEEE 754 half precision, little-endian.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct F16 {
  using Block = uint16_t;
  static constexpr std::string_view kName = "F16";
  static constexpr uint32_t kGgmlType = 1;
  MXGPT_ALWAYS_INLINE static constexpr float value(Block element) { return f16_to_f32(element); }
};

}  // namespace mxgpt::quant
