// Q2_K: 256 elements of 2 bits in sixteen sub-blocks of 16. A sub-block has a 4-bit scale and a
// 4-bit min, in units of two f16 values of the block; 2.625 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q2_K {
  struct Block {
    uint8_t sub_scales[16];  ///< sub-block p: scale in the low nibble, min in the high nibble
    /// Byte 32h + l holds elements 128h + l, + 32, + 64, + 96 in its bits 1-0, 3-2, 5-4, 7-6.
    uint8_t q[64];
    uint16_t scale;  ///< f16, unit of sub_scales' scales
    uint16_t min;    ///< f16, unit of sub_scales' mins, which are subtracted
  };
  static_assert(sizeof(Block) == 84 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q2_K";
  static constexpr uint32_t kGgmlType = 10;
  static constexpr int kElements = 256;
  static constexpr int kScales = 2;
  static constexpr bool kHasOffset = true;
  static constexpr int kRange = 3;

  static constexpr void unpack(const Block& block, int g, UnpackedGroup& out) {
    for (int l = 0; l < kQuantGroup; ++l) {
      out.q[l] = static_cast<int8_t>(block.q[g / 4 * 32 + l] >> (g % 4 * 2) & 3);
    }
    for (int half = 0; half < 2; ++half) {
      const uint8_t packed = block.sub_scales[2 * g + half];
      out.scale[half] = f16_to_f32(block.scale) * static_cast<float>(packed & 0xf);
      out.offset[half] = -(f16_to_f32(block.min) * static_cast<float>(packed >> 4));
    }
  }
};

}  // namespace mxgpt::quant
