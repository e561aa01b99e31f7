#include "model/repack.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.h"
#include "base/thread_pool.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::model::repack {

void select_rows(std::span<const std::byte> in, const StridedRows& p, size_t element_bytes,
                 std::byte* out) {
  const size_t row_bytes = p.k * element_bytes;
  for (int64_t row = 0; row < p.num_experts * p.rows; ++row) {
    std::memcpy(out + row * row_bytes, &in[(row * p.stride + p.start) * row_bytes], row_bytes);
  }
}

void transpose(std::span<const std::byte> in, const StridedRows& p, size_t element_bytes,
               std::byte* out) {
  constexpr int64_t kTile = 32;  // rows at a time: a cache line of `in` serves them all
  const auto copy = [&]<size_t kSize>(std::integral_constant<size_t, kSize>) {
    const int64_t tiles = (p.rows + kTile - 1) / kTile;
    parallel_for(p.num_experts * tiles, [&](int64_t task) {
      const int64_t s = task / tiles, begin = task % tiles * kTile;
      const int64_t end = std::min(p.rows, begin + kTile);
      for (int64_t i = 0; i < p.k; ++i) {
        const std::byte* from = in.data() + ((s * p.k + i) * p.rows * p.stride + p.start) * kSize;
        for (int64_t r = begin; r < end; ++r) {
          std::memcpy(out + ((s * p.rows + r) * p.k + i) * kSize, from + r * p.stride * kSize,
                      kSize);
        }
      }
    });
  };
  MXGPT_CHECK(element_bytes == 2 || element_bytes == 4, "elements of {} bytes", element_bytes);
  if (element_bytes == 2)
    copy(std::integral_constant<size_t, 2>());
  else
    copy(std::integral_constant<size_t, 4>());
}

void mxfp4(std::span<const std::byte> blocks, std::span<const std::byte> scales,
           const StridedRows& p, std::byte* out) {
  const int64_t groups = p.k / quant::Mxfp4::kElements;
  auto* result = reinterpret_cast<quant::Mxfp4::Block*>(out);
  parallel_ranges(p.num_experts * p.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t from = (row * p.stride + p.start) * groups;
      for (int64_t g = 0; g < groups; ++g) {
        quant::mxfp4_from_checkpoint(reinterpret_cast<const uint8_t*>(&blocks[(from + g) * 16]),
                                     static_cast<uint8_t>(scales[from + g]),
                                     result[row * groups + g]);
      }
    }
  });
}

void interleave_rope_pairs(std::span<const std::byte> in, int64_t heads, int64_t head_dim,
                           size_t row_bytes, std::byte* out) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t side = 0; side < 2; ++side) {
      for (int64_t i = 0; i < half; ++i) {
        std::memcpy(out + ((h * half + i) * 2 + side) * row_bytes,
                    &in[((h * 2 + side) * half + i) * row_bytes], row_bytes);
      }
    }
  }
}

}  // namespace mxgpt::model::repack
