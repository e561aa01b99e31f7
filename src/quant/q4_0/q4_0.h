// Q4_0: 32 nibbles share one f16 scale; 4.5 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q4_0 {
  /// Byte j holds q + 8 of element j in its low nibble and of element j + 16 in its high nibble.
  struct Block {
    uint16_t scale;  ///< f16
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q4_0";
  static constexpr uint32_t kGgmlType = 2;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 15;

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int j = 0; j < 16; ++j) {
      out.q[j] = static_cast<int8_t>((block.nibbles[j] & 0xf) - 8);
      out.q[j + 16] = static_cast<int8_t>((block.nibbles[j] >> 4) - 8);
    }
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
  }
};

}  // namespace mxgpt::quant
