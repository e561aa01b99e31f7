// A format for tests only: 64 signed bytes with one f16 scale and one f16 offset.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Toy {
  struct Block {
    uint16_t scale;   ///< f16
    uint16_t offset;  ///< f16
    int8_t q[64];
  };
  static_assert(sizeof(Block) == 68 && alignof(Block) == 2);

  static constexpr std::string_view kName = "TOY";
  static constexpr uint32_t kGgmlType = 1000;
  static constexpr int kElements = 64;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = true;
  static constexpr int kRange = 255;

  static void unpack(const Block& block, int group, UnpackedGroup& out) {
    for (int i = 0; i < kQuantGroup; ++i) out.q[i] = block.q[group * kQuantGroup + i];
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
    out.offset[0] = out.offset[1] = f16_to_f32(block.offset);
  }
};

}  // namespace mxgpt::quant
