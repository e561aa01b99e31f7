// Q5_0: 32 elements of 5 bits share one f16 scale; 5.5 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q5_0 {
  /// Byte j of `nibbles` holds the low four bits of element j in its low nibble and those of
  /// element j + 16 in its high nibble; bit i of the 32 bits of `high` (little-endian) is the fifth
  /// bit of element i. The five bits are q + 16.
  struct Block {
    uint16_t scale;  ///< f16
    uint8_t high[4];
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 22 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q5_0";
  static constexpr uint32_t kGgmlType = 6;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 31;

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int i = 0; i < kElements; ++i) {
      const int low = block.nibbles[i % 16] >> (i / 16 * 4) & 0xf;
      const int high = block.high[i / 8] >> (i % 8) & 1;
      out.q[i] = static_cast<int8_t>((low | high << 4) - 16);
    }
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
  }
};

}  // namespace mxgpt::quant
