#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace mxgpt::tokenizer {

/// Random per process, so that no file can provoke collisions.
inline uint64_t hash_seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return static_cast<uint64_t>(device()) << 32 | device();
  }();
  return seed;
}

/// The two halves of the 128-bit product, combined by XOR.
inline uint64_t folded_multiply(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  constexpr uint64_t kOdd1 = 0x9E3779B97F4A7C15, kOdd2 = 0xD6E8FEB86659FD93;
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t state = seed ^ (left * kOdd2);
  uint64_t word;
  for (; left > 8; left -= 8, p += 8) {
    std::memcpy(&word, p, 8);
    state = folded_multiply(state ^ word, kOdd1);
  }
  word = 0;
  if (left > 0) std::memcpy(&word, p, left);  // the data pointer of an empty view may be null
  return folded_multiply(state ^ word, kOdd1 ^ seed);
}

}  // namespace mxgpt::tokenizer
