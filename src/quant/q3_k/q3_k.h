// Q3_K: 256 elements of 3 bits in sixteen sub-blocks of 16. A sub-block has a signed 6-bit scale in
// units of the block's f16 scale; 3.4375 bits per weight.
#pragma once

#include "base/attributes.h"
#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Q3_K {
  struct Block {
    uint8_t high[32];  ///< bit g of byte l: the third bit of element 32g + l, set if q >= 0
    /// The low two bits: byte 32h + l holds elements 128h + l, + 32, + 64, + 96 in its bits 1-0,
    /// 3-2, 5-4, 7-6.
    uint8_t q[64];
    /// Scale p + 32: the low four bits in byte p % 8, nibble p / 8; the upper two bits in byte
    /// 8 + p % 4, from bit 2 · (p / 4) on.
    uint8_t sub_scales[12];
    uint16_t scale;  ///< f16
  };
  static_assert(sizeof(Block) == 110 && alignof(Block) == 2);

  static constexpr std::string_view kName = "Q3_K";
  static constexpr uint32_t kGgmlType = 11;
  static constexpr int kElements = 256;
  static constexpr int kScales = 2;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 7;

  /// Scale of sub-block p, in [-32, 31].
  MXGPT_ALWAYS_INLINE static constexpr int sub_block_scale(const Block& block, int p) {
    const int low = block.sub_scales[p % 8] >> (p / 8 * 4) & 0xf;
    const int high = block.sub_scales[8 + p % 4] >> (p / 4 * 2) & 3;
    return (low | high << 4) - 32;
  }

  static constexpr void unpack(const Block& block, int g, UnpackedGroup& out) {
    for (int l = 0; l < kQuantGroup; ++l) {
      const int low = block.q[g / 4 * 32 + l] >> (g % 4 * 2) & 3;
      const int high = block.high[l] >> g & 1;
      out.q[l] = static_cast<int8_t>((low | high << 2) - 4);
    }
    for (int half = 0; half < 2; ++half) {
      out.scale[half] =
          f16_to_f32(block.scale) * static_cast<float>(sub_block_scale(block, 2 * g + half));
    }
  }
};

}  // namespace mxgpt::quant
