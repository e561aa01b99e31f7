// Random weights in any format, with their values, for kernel checks and tests.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "kernels/cpu/isa.h"
#include "quant/format.h"

namespace mxgpt::eval {

using Random = std::mt19937;

inline std::vector<quant::Format> all_formats() {
  std::vector<quant::Format> formats;
  for (int i = 0; i < quant::kFormatCount; ++i) formats.push_back(static_cast<quant::Format>(i));
  return formats;
}

/// Instruction sets that the build has and this processor supports.
inline std::vector<kernels::Isa> supported_isas() {
  std::vector<kernels::Isa> isas;
  for (int i = 0; i < kernels::kIsaCount; ++i) {
    if (kernels::isa_supported(static_cast<kernels::Isa>(i)))
      isas.push_back(static_cast<kernels::Isa>(i));
  }
  return isas;
}

inline std::vector<float> dequantized(quant::Format format, const std::vector<std::byte>& blocks) {
  const quant::FormatTraits& t = quant::traits(format);
  std::vector<float> values(blocks.size() / t.block_bytes * t.block_elements);
  t.dequantize(blocks.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

/// A block of random bytes whose values satisfy `accept`. Needs no quantizer and covers every bit
/// pattern.
template <class Accept>
std::vector<std::byte> random_block(quant::Format format, Random& random, Accept accept) {
  std::vector<std::byte> block(quant::traits(format).block_bytes);
  for (;;) {
    for (auto& byte : block) byte = static_cast<std::byte>(random() & 0xff);
    if (accept(dequantized(format, block))) return block;
  }
}

/// Maximum magnitude; NaN if a value is not finite.
inline float magnitude(const std::vector<float>& values) {
  float largest = 0;
  for (float v : values) {
    if (!std::isfinite(v)) return NAN;
    largest = std::max(largest, std::abs(v));
  }
  return largest;
}

/// Random blocks whose maximum magnitude is between the two limits.
inline std::vector<std::byte> random_blocks(quant::Format format, int64_t elements,
                                            float min_magnitude, float max_magnitude,
                                            Random& random) {
  std::vector<std::byte> blocks;
  for (int64_t i = 0; i < elements / quant::traits(format).block_elements; ++i) {
    const auto block = random_block(format, random, [&](const std::vector<float>& values) {
      const float largest = magnitude(values);
      return largest >= min_magnitude && largest <= max_magnitude;
    });
    blocks.insert(blocks.end(), block.begin(), block.end());
  }
  return blocks;
}

}  // namespace mxgpt::eval
