// Q8_0: 32 signed bytes share one f16 scale; 8.5 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q8_0 {
  struct Block {
    uint16_t scale;  ///< f16
    int8_t q[32];
  };
  static_assert(sizeof(Block) == 34 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q8_0";
  static constexpr uint32_t kGgmlType = 8;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 255;

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int i = 0; i < kElements; ++i) out.q[i] = block.q[i];
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
  }
};

}  // namespace mxgpt::quant
