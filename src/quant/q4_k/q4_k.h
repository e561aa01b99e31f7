// Q4_K: 256 nibbles in eight sub-blocks of 32. A sub-block has a 6-bit scale and a 6-bit min, in
// units of two f16 values of the block; 4.5 bits per weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"
#include "quant/k_quant_scales.h"

namespace mxgpt::quant {

struct Q4_K {
  struct Block {
    uint16_t scale;  ///< f16, unit of sub_scales' scales
    uint16_t min;    ///< f16, unit of sub_scales' mins, which are subtracted
    KQuantScales sub_scales;
    /// Byte 32h + l: element 64h + l in the low nibble, + 32 in the high nibble.
    uint8_t nibbles[128];
  };
  static_assert(sizeof(Block) == 144 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q4_K";
  static constexpr uint32_t kGgmlType = 12;
  static constexpr int kElements = 256;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = true;
  static constexpr int kRange = 15;

  static constexpr void unpack(const Block& block, int g, UnpackedGroup& out) {
    for (int l = 0; l < kQuantGroup; ++l) {
      out.q[l] = static_cast<int8_t>(block.nibbles[g / 2 * 32 + l] >> (g % 2 * 4) & 0xf);
    }
    out.scale[0] = out.scale[1] =
        f16_to_f32(block.scale) * static_cast<float>(block.sub_scales.scale(g));
    out.offset[0] = out.offset[1] =
        -(f16_to_f32(block.min) * static_cast<float>(block.sub_scales.min(g)));
  }
};

}  // namespace mxgpt::quant
