// Random inputs for tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace mxgpt::cpu {

/// Normally distributed values with this standard deviation, determined by the seed.
inline std::vector<float> random_normals(int64_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> result(n);
  for (float& x : result) x = normal(generator);
  return result;
}

}  // namespace mxgpt::cpu
