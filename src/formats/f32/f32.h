// F32: IEEE 754 single precision, little-endian.
#pragma once

#include "formats/float_bits.h"
#include "formats/scalar.h"

namespace mxgpt {

struct F32 {
  using Block = float;
  static constexpr std::string_view kName = "F32";
  static constexpr uint32_t kGgmlType = 0;
  MXGPT_ALWAYS_INLINE static constexpr float value(Block element) { return element; }
};

}  // namespace mxgpt
