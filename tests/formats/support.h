// What the tests of all formats share: the formats and instruction sets as parameters, and random
// weights.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "formats/format.h"

namespace mxgpt {

inline std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for (int i = 0; i < kFormatCount; ++i) formats.push_back(static_cast<Format>(i));
  return formats;
}

inline std::vector<Isa> present_isas() {
  std::vector<Isa> isas;
  for (int i = 0; i < kIsaCount; ++i) {
    if (isa_supported(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

inline std::vector<float> dequantized(Format format, const std::vector<std::byte>& blocks) {
  const FormatTraits& t = traits(format);
  std::vector<float> values(blocks.size() / t.block_bytes * t.block_elements);
  t.dequantize(blocks.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

using Random = std::mt19937;

/// One block of random bytes whose values satisfy `accept`. Needs no quantizer and reaches every
/// bit pattern.
template <class Accept>
std::vector<std::byte> random_block(Format format, Random& random, Accept accept) {
  std::vector<std::byte> block(traits(format).block_bytes);
  for (;;) {
    for (auto& byte : block) byte = static_cast<std::byte>(random() & 0xff);
    if (accept(dequantized(format, block))) return block;
  }
}

/// Largest magnitude, NaN if a value is not finite.
inline float magnitude(const std::vector<float>& values) {
  float largest = 0;
  for (float v : values) {
    if (!std::isfinite(v)) return NAN;
    largest = std::max(largest, std::abs(v));
  }
  return largest;
}

/// Blocks whose values are finite and of about one order, so that no product overflows or vanishes.
inline std::vector<std::byte> moderate_blocks(Format format, int64_t elements, Random& random) {
  const FormatTraits& t = traits(format);
  std::vector<std::byte> blocks;
  for (int64_t i = 0; i < elements / t.block_elements; ++i) {
    const auto block = random_block(format, random, [](const std::vector<float>& values) {
      const float largest = magnitude(values);
      return largest > 0x1p-10f && largest < 0x1p20f;
    });
    blocks.insert(blocks.end(), block.begin(), block.end());
  }
  return blocks;
}

}  // namespace mxgpt
