// IQ4_NL: 32 nibbles index a table of unevenly spaced values and share one f16 scale; 4.5 bits per
// weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct IQ4_NL {
  /// Byte j holds element j in its low nibble and element j + 16 in its high nibble.
  struct Block {
    uint16_t scale;  ///< f16
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 2);

  static constexpr std::string_view kName = "IQ4_NL";
  static constexpr uint32_t kGgmlType = 20;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 240;

  /// Rising, and denser around zero like the distribution of weights. The values define the format
  /// (ggml-common.h).
  static constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

  static constexpr uint64_t kLow = packed_table(kValues, 0), kHigh = packed_table(kValues, 1);
  static constexpr int8_t value(int code) {
    return static_cast<int8_t>((code < 8 ? kLow : kHigh) >> (code % 8 * 8));
  }

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int j = 0; j < 16; ++j) {
      out.q[j] = value(block.nibbles[j] & 0xf);
      out.q[j + 16] = value(block.nibbles[j] >> 4);
    }
    out.scale[0] = out.scale[1] = f16_to_f32(block.scale);
  }
};

}  // namespace mxgpt::quant
