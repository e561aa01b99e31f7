// Random weights in the formats of model files, with their values in double.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "backend/cuda/sm90/pack.h"

#define CUDA(call)                                                       \
  do {                                                                   \
    const cudaError_t cuda_error = (call);                               \
    if (cuda_error != cudaSuccess) {                                     \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, \
                   cudaGetErrorString(cuda_error));                      \
      std::exit(2);                                                      \
    }                                                                    \
  } while (0)

namespace mxgpt::cuda::sm90 {

/// Device memory that lives as long as the program.
template <class T>
T* device_array(size_t n) {
  void* p = nullptr;
  CUDA(cudaMalloc(&p, n * sizeof(T) + 256));
  return static_cast<T*>(p);
}
template <class T>
T* to_device(const std::vector<T>& v) {
  T* p = device_array<T>(v.size());
  CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}
template <class T>
std::vector<T> to_host(const T* p, size_t n) {
  std::vector<T> v(n);
  CUDA(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
  return v;
}

/// Seed of random_bits(), to be changed before its first use.
inline unsigned& random_seed() {
  static unsigned seed = 1;
  return seed;
}
inline std::mt19937& random_bits() {
  static std::mt19937 generator(random_seed());
  return generator;
}
inline std::vector<float> random_floats(size_t n, float scale, float mean = 0) {
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random_bits());
  return v;
}

/// A matrix in a file's format and in double, and packed on the device.
struct RandomMatrix {
  std::vector<uint8_t> blocks;
  std::vector<double> values;  ///< [slices][rows][k]
  PackedWeight packed;

  RandomMatrix(WeightType kind, int slices, int rows, int k, RowOrder order = RowOrder::natural,
               int lowest_scale = 117, int highest_scale = 121) {
    static constexpr double kE2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const int64_t n = int64_t{slices} * rows * k;
    values.resize(n);
    auto& random = random_bits();
    if (kind == WeightType::bf16) {
      blocks.resize(n * 2);
      const std::vector<float> v = random_floats(n, 0.03f);
      for (int64_t i = 0; i < n; ++i) {
        const __nv_bfloat16 b = __float2bfloat16(v[i]);
        reinterpret_cast<__nv_bfloat16*>(blocks.data())[i] = b;
        values[i] = __bfloat162float(b);
      }
    } else {
      const int bytes = kind == WeightType::q8_0 ? 34 : 17;
      blocks.resize(n / 32 * bytes);
      for (int64_t b = 0; b < n / 32; ++b) {
        uint8_t* const at = blocks.data() + b * bytes;
        if (kind == WeightType::q8_0) {
          const __half scale = __float2half((random() % 1000 + 1) * 5e-7f);
          reinterpret_cast<__half*>(at)[0] = scale;
          for (int i = 0; i < 32; ++i) {
            at[2 + i] = static_cast<uint8_t>(random());
            values[b * 32 + i] = double{__half2float(scale)} * static_cast<int8_t>(at[2 + i]);
          }
        } else {
          at[0] =
              static_cast<uint8_t>(lowest_scale + random() % (highest_scale - lowest_scale + 1));
          for (int i = 0; i < 16; ++i) at[1 + i] = static_cast<uint8_t>(random());
          for (int i = 0; i < 32; ++i) {
            const int nibble = at[1 + i % 16] >> (i < 16 ? 0 : 4) & 15;
            values[b * 32 + i] = (nibble & 8 ? -1 : 1) * kE2m1[nibble & 7] *
                                 (at[0] == 255 ? NAN : std::ldexp(1.0, at[0] - 127));
          }
        }
      }
    }
    uint8_t* const data = device_array<uint8_t>(packed_bytes(kind, slices, rows, k));
    uint8_t* const raw = to_device(blocks);
    pack({kind, order, slices, rows, k, reinterpret_cast<const std::byte*>(raw), data}, nullptr);
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaFree(raw));
    packed = {data, kind, rows, k};
  }

  /// Row `row` of slice `slice` times x.
  double dot(int slice, int row, const double* x) const {
    const double* w = values.data() + (int64_t{slice} * packed.rows + row) * packed.k;
    double sum = 0;
    for (int i = 0; i < packed.k; ++i) sum += w[i] * x[i];
    return sum;
  }
};

}  // namespace mxgpt::cuda::sm90
