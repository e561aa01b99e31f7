// Q4_1: 32 nibbles share an f16 scale and an f16 min; 5 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q4_1 {
  /// Byte j holds element j in its low nibble and element j + 16 in its high nibble.
  struct Block {
    uint16_t scale;  ///< f16
    uint16_t min;    ///< f16, the value of q = 0
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 20 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q4_1";
  static constexpr uint32_t kGgmlType = 3;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = true;
  static constexpr int kRange = 15;

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int j = 0; j < 16; ++j) {
      out.q[j] = static_cast<int8_t>(block.nibbles[j] & 0xf);
      out.q[j + 16] = static_cast<int8_t>(block.nibbles[j] >> 4);
    }
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
    out.offset[0] = out.offset[1] = f16_to_f32(block.min);
  }
};

}  // namespace mxgpt::quant
