// MXFP4 (OCP Microscaling Formats v1.0): 32 E2M1 elements share one E8M0 scale; 4.25 bits per
// weight.
#pragma once

#include "quant/block_format.h"
#include "quant/float_bits.h"

namespace mxgpt::quant {

struct Mxfp4 {
  /// The order of GGUF files: byte j holds element j in its low nibble and element j + 16 in its
  /// high nibble. A nibble is sign (bit 3), exponent (bits 2-1), mantissa (bit 0).
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

  /// The sixteen E2M1 values times two, which makes them integers.
  static constexpr int8_t kE2m1Times2[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                             0, -1, -2, -3, -4, -6, -8, -12};

  /// The scale of kE2m1Times2: half the block's. The smallest, 2^-128, is a subnormal float.
  static constexpr float half_scale(uint8_t s) {
    return s == 255 ? e8m0_to_f32(255) : 0.5f * e8m0_to_f32(s);
  }
  struct HalfScales {
    float of[256];  ///< half_scale() by scale byte
  };
  static constexpr HalfScales kHalfScales = [] {
    HalfScales table{};
    for (int s = 0; s < 255; ++s) table.of[s] = 0.5f * e8m0_to_f32(static_cast<uint8_t>(s));
    table.of[255] = e8m0_to_f32(255);
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

/// Conversion from and to the order of OpenAI's checkpoints, which store scales separately and
/// adjacent elements together: byte i holds element 2i (low nibble) and 2i + 1. Both are lossless.
void mxfp4_from_checkpoint(const uint8_t nibbles[16], uint8_t scale, Mxfp4::Block& out);
void mxfp4_to_checkpoint(const Mxfp4::Block& block, uint8_t nibbles[16], uint8_t& scale);

/// Quantizes as OCP Microscaling v1.0, section 6.3, does: shared exponent floor(log2(max|x|)) - 2,
/// elements to nearest, ties to even, saturating at ±6. A block with a NaN or an infinity gets the
/// NaN scale. With an importance, the exponent may be one lower or higher, whichever gives the
/// smallest weighted squared error.
void mxfp4_quantize(const float* in, int64_t elements, const float* importance, std::byte* blocks);

}  // namespace mxgpt::quant
