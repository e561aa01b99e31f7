// The 6-bit scales and mins of eight sub-blocks, which Q4_K and Q5_K pack into twelve bytes.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/attributes.h"

namespace mxgpt::quant {

/// Sub-block p < 4: the low six bits of byte p are its scale, those of byte p + 4 its min.
/// Sub-block p >= 4: byte p + 4 holds the low four bits of its scale (low nibble) and of its min
/// (high nibble). The upper two bits are bits 7-6 of bytes p - 4 (scale) and p (min).
struct KQuantScales {
  uint8_t bytes[12];

  MXGPT_ALWAYS_INLINE constexpr int scale(int p) const {
    return p < 4 ? bytes[p] & 63 : (bytes[p + 4] & 0xf) | bytes[p - 4] >> 6 << 4;
  }
  MXGPT_ALWAYS_INLINE constexpr int min(int p) const {
    return p < 4 ? bytes[p + 4] & 63 : bytes[p + 4] >> 4 | bytes[p] >> 6 << 4;
  }
  /// All eight at once: sub-block p in byte p.
  MXGPT_ALWAYS_INLINE uint64_t scales() const {
    return (word(0) & 0x3f3f3f3f) | ((word(8) & 0x0f0f0f0f) | (word(0) >> 2 & 0x30303030)) << 32;
  }
  MXGPT_ALWAYS_INLINE uint64_t mins() const {
    return (word(4) & 0x3f3f3f3f) | ((word(8) >> 4 & 0x0f0f0f0f) | (word(4) >> 2 & 0x30303030))
                                        << 32;
  }
  /// Sets the bits of sub-block p, which must be zero.
  void set(int p, int scale, int min) {
    if (p < 4) {
      bytes[p] |= static_cast<uint8_t>(scale);
      bytes[p + 4] |= static_cast<uint8_t>(min);
    } else {
      bytes[p + 4] = static_cast<uint8_t>((scale & 0xf) | (min & 0xf) << 4);
      bytes[p - 4] |= static_cast<uint8_t>(scale >> 4 << 6);
      bytes[p] |= static_cast<uint8_t>(min >> 4 << 6);
    }
  }

 private:
  /// Four bytes, little-endian.
  MXGPT_ALWAYS_INLINE uint64_t word(int first) const {
    uint32_t four;
    std::memcpy(&four, bytes + first, sizeof four);
    return four;
  }
};
static_assert(sizeof(KQuantScales) == 12);

}  // namespace mxgpt::quant
