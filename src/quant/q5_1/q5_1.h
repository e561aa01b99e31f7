// Q5_1: 32 elements of 5 bits share an f16 scale and an f16 min; 6 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q5_1 {
  /// Byte j of `nibbles` holds the low four bits of element j in its low nibble and those of
  /// element j + 16 in its high nibble; bit i of the 32 bits of `high` (little-endian) is the fifth
  /// bit of element i.
  struct Block {
    uint16_t scale;  ///< f16
    uint16_t min;    ///< f16, the value of q = 0
    uint8_t high[4];
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 24 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q5_1";
  static constexpr uint32_t kGgmlType = 7;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = true;
  static constexpr int kRange = 31;

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int i = 0; i < kElements; ++i) {
      const int low = block.nibbles[i % 16] >> (i / 16 * 4) & 0xf;
      const int high = block.high[i / 8] >> (i % 8) & 1;
      out.q[i] = static_cast<int8_t>(low | high << 4);
    }
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
    out.offset[0] = out.offset[1] = f16_to_f32(block.min);
  }
};

}  // namespace mxgpt::quant
