// F32: IEEE 754 single precision, little-endian.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct F32 {
  using Block = float;
  static constexpr std::string_view kName = "F32";
  static constexpr uint32_t kGgmlType = 0;
  MXGPT_ALWAYS_INLINE static constexpr float value(Block element) { return element; }
};

}  // namespace mxgpt::quant
