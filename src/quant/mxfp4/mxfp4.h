// MXFP4 (OCP Microscaling Formats v1.0): 32 elements of E2M1 share one E8M0 scale; 4.25 bits a
// weight.
#pragma once

#include <array>

#include "quant/float_bits.h"
#include "quant/reference.h"

namespace mxgpt::quant {

struct Mxfp4 {
  /// As in GGUF files: byte j holds element j in its low nibble and element j + 16 in its high
  /// nibble. A nibble is sign (bit 3), exponent (bits 2-1), mantissa (bit 0).
  struct Block {
    uint8_t scale;  ///< E8M0: 2^(scale - 127); 0xFF is NaN
    uint8_t nibbles[16];
  };
  static_assert(sizeof(Block) == 17 && alignof(Block) == 1);

  static constexpr std::string_view kName = "MXFP4";
  static constexpr uint32_t kGgmlType = 39;
  static constexpr int kElements = 32;
  static constexpr int kScales = 1;
  static constexpr bool kHasOffset = false;
  static constexpr int kRange = 24;

  /// The sixteen E2M1 values, doubled to be integers.
  static constexpr int8_t kE2m1Times2[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                             0, -1, -2, -3, -4, -6, -8, -12};

  /// The scale of kDoubled: half of the block's. 2^-128 and up are floats, subnormal at the bottom.
  static constexpr float half_scale(uint8_t s) {
    return s == 255 ? e8m0_to_f32(255) : 0.5f * e8m0_to_f32(s);
  }
  static constexpr std::array<float, 256> kHalfScale = [] {
    std::array<float, 256> table{};
    for (int s = 0; s < 255; ++s) table[s] = 0.5f * e8m0_to_f32(static_cast<uint8_t>(s));
    table[255] = e8m0_to_f32(255);
    return table;
  }();

  static constexpr uint64_t kLow = packed_table(kE2m1Times2, 0),
                            kHigh = packed_table(kE2m1Times2, 1);
  static constexpr int8_t e2m1_times2(int code) {
    return static_cast<int8_t>((code < 8 ? kLow : kHigh) >> (code % 8 * 8));
  }

  static constexpr void unpack(const Block& block, int, UnpackedGroup& out) {
    for (int j = 0; j < 16; ++j) {
      out.q[j] = e2m1_times2(block.nibbles[j] & 0xf);
      out.q[j + 16] = e2m1_times2(block.nibbles[j] >> 4);
    }
    out.scale[0] = out.scale[1] = half_scale(block.scale);
  }
};

/// The released checkpoints keep nibbles of neighbours together (byte i: element 2i low, 2i + 1
/// high) and scales apart. Both directions are lossless.
void mxfp4_from_checkpoint(const uint8_t nibbles[16], uint8_t scale, Mxfp4::Block& out);
void mxfp4_to_checkpoint(const Mxfp4::Block& block, uint8_t nibbles[16], uint8_t& scale);

/// Rounding of OCP Microscaling v1.0, section 6.3: shared exponent floor(log2(max|x|)) - 2,
/// elements to nearest with ties to even, saturating at ±6. A block with a NaN or an infinity gets
/// the NaN scale. With an importance, the exponent is that of OCP, one less or one more, whichever
/// gives the least weighted squared error.
void mxfp4_quantize(const float* in, int64_t elements, const float* importance, std::byte* blocks);

}  // namespace mxgpt::quant
