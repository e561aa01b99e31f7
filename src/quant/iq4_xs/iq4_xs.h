// IQ4_XS: 256 nibbles index the table of IQ4_NL, in eight sub-blocks of 32. A sub-block has a
// signed 6-bit scale in units of the block's f16 scale; 4.25 bits per weight.
#pragma once

#include "base/attributes.h"
#include "quant/block_format.h"
#include "quant/float_bits.h"
#include "quant/iq4_nl/iq4_nl.h"

namespace mxgpt::quant {

struct IQ4_XS {
  struct Block {
    uint16_t scale;             ///< f16
    uint16_t sub_scales_high;   ///< bits 2p + 1 and 2p: the upper two bits of scale p + 32
    uint8_t sub_scales_low[4];  ///< byte p / 2, nibble p % 2: the low four bits
    /// Byte 16p + j: element 32p + j in the low nibble, + 16 in the high nibble.
    uint8_t nibbles[128];
  };
  static_assert(sizeof(Block) == 136 && alignof(Block) == 2);

  static constexpr std::string_view kName = "IQ4_XS";
  static constexpr uint32_t kGgmlType = 23;
  static constexpr int kElements = 256;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 240;

  /// Scale of sub-block p, in [-32, 31].
  MXGPT_ALWAYS_INLINE static constexpr int sub_block_scale(const Block& block, int p) {
    const int low = block.sub_scales_low[p / 2] >> (p % 2 * 4) & 0xf;
    const int high = block.sub_scales_high >> (p * 2) & 3;
    return (low | high << 4) - 32;
  }

  static constexpr void unpack(const Block& block, int g, UnpackedGroup& out) {
    for (int j = 0; j < 16; ++j) {
      out.q[j] = IQ4_NL::value(block.nibbles[g * 16 + j] & 0xf);
      out.q[j + 16] = IQ4_NL::value(block.nibbles[g * 16 + j] >> 4);
    }
    out.scale[0] = out.scale[1] =
        f16_to_f32(block.scale) * static_cast<float>(sub_block_scale(block, g));
  }
};

}  // namespace mxgpt::quant
