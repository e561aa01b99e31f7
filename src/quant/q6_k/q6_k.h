// Q6_K: 256 elements of 6 bits in sixteen sub-blocks of 16. A sub-block has an 8-bit scale in units
// of the block's f16 scale; 6.5625 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q6_K {
  /// Stores q + 32 in six bits.
  struct Block {
    /// The low four bits: byte 64h + l, l < 64, holds element 128h + l in its low nibble and
    /// element 128h + l + 64 in its high nibble.
    uint8_t nibbles[128];
    /// The upper two bits: byte 32h + l, l < 32, holds those of elements 128h + l, + 32, + 64, + 96
    /// in bits 1-0, 3-2, 5-4, 7-6.
    uint8_t high[64];
    int8_t sub_scales[16];
    uint16_t scale;  ///< f16
  };
  static_assert(sizeof(Block) == 210 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q6_K";
  static constexpr uint32_t kGgmlType = 14;
  static constexpr int kElements = 256;
  static constexpr int kScales = 2;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 63;

  static constexpr void unpack(const Block& block, int g, UnpackedGroup& out) {
    const int half_block = g / 4, quarter = g % 4;
    for (int l = 0; l < kQuantGroup; ++l) {
      const int low =
          block.nibbles[half_block * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 0xf;
      const int high = block.high[half_block * 32 + l] >> (quarter * 2) & 3;
      out.q[l] = static_cast<int8_t>((low | high << 4) - 32);
    }
    for (int half = 0; half < 2; ++half) {
      out.scale[half] =
          f16_to_f32(block.scale) * static_cast<float>(block.sub_scales[2 * g + half]);
    }
  }
};

}  // namespace mxgpt::quant
