#include "backend/cuda/fast/decode.h"
#include "backend/cuda/fast/pack.h"
#include "backend/cuda/layouts.h"
#include "formats/device.cuh"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt::cuda {
namespace {

using fast::Kind;

/// A row in tiles of fast/layout.h, by blocks of 32 columns.
template <Kind kKind, bool kRopeHalves>
class TileRow {
 public:
  static constexpr bool kGroups = kKind != Kind::bf16;

  __device__ TileRow(const DeviceTile& p, int slice, int row) {
    shape_ = {reinterpret_cast<const uint8_t*>(p.weights), kKind, p.rows, p.k};
    int tile = row / fast::kTileRows;
    row_ = row % fast::kTileRows;
    if constexpr (kRopeHalves) {
      const int in_head = row % 64, in_half = in_head % 32;
      tile = row / 64 * 8 + in_half / 4;
      row_ = in_half % 4 + in_head / 32 * 4;
    }
    tile_ = shape_.data + slice * shape_.slice_bytes() + tile * shape_.tile_bytes();
  }

  __device__ __forceinline__ void decode(int at, int, float (&w)[kGroup]) const {
    const int block = at / kGroup, pair = block / 2, half = block % 2;
    constexpr int pairs = fast::chunk_pairs(kKind);
    const int first = pair / pairs * pairs;
    const uint8_t* chunk = tile_ + static_cast<int64_t>(first) * fast::pair_bytes(kKind);
    const uint8_t* elements = chunk + (pair - first) * fast::element_bytes(kKind);
    const uint8_t* scales = chunk + pairs * fast::element_bytes(kKind);
    const int scale = ((pair - first) * fast::kTileRows + row_) * 2 + half;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const int lane = 4 * row_ + t;
      if constexpr (kKind == Kind::q8_0) {
        const uint2 words = *reinterpret_cast<const uint2*>(elements + lane * 16 + half * 8);
        const float s = f16_to_f32(reinterpret_cast<const uint16_t*>(scales)[scale]);
#pragma unroll
        for (int e = 0; e < 8; ++e)
          w[8 * t + e] = s * static_cast<float>(
                                 static_cast<int8_t>((e < 4 ? words.x : words.y) >> (e % 4 * 8)));
      } else if constexpr (kKind == Kind::mxfp4) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(elements + lane * 8 + half * 4);
        const float s = Mxfp4::half_scale(scales[scale]);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          int code = 0;
#pragma unroll
          for (int bit = 0; bit < 4; ++bit)
            code |= static_cast<int>(word >> fast::nibble_bit(e, bit) & 1) << bit;
          w[8 * t + e] = s * static_cast<float>(Mxfp4::doubled(code));
        }
      } else {
        const uint4 words = *reinterpret_cast<const uint4*>(elements + half * 512 + lane * 16);
        const uint32_t pairs_of[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int e = 0; e < 8; ++e)
          w[8 * t + e] = bf16_to_f32(static_cast<uint16_t>(pairs_of[e / 2] >> (e % 2 * 16)));
      }
    }
  }

 private:
  fast::Packed shape_;
  const uint8_t* tile_;
  int row_;
};

template <Kind kKind, bool kRopeHalves>
constexpr DeviceKernels kKernels{launch_few<TileRow<kKind, kRopeHalves>>,
                                 launch_many<TileRow<kKind, kRopeHalves>>, nullptr};

}  // namespace

bool has_fast_kernels() {
  return fast::decode_runs_here();
}

void make_tiles(const Tensor& t, const std::byte* blocks, DeviceStream stream) {
  fast::pack({.kind = tile_kind(t.format),
              .order = t.layout == kTilesRopeHalves ? fast::RowOrder::rope_halves_64
                                                    : fast::RowOrder::natural,
              .slices = t.slices,
              .rows = static_cast<int>(t.rows),
              .k = static_cast<int>(t.k),
              .blocks = blocks,
              .packed = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(t.data))},
             stream);
}

const DeviceKernels& tile_kernels(const Tensor& t) {
  static constexpr const DeviceKernels* kTable[3][2] = {
      {&kKernels<Kind::q8_0, false>, &kKernels<Kind::q8_0, true>},
      {&kKernels<Kind::mxfp4, false>, &kKernels<Kind::mxfp4, true>},
      {&kKernels<Kind::bf16, false>, &kKernels<Kind::bf16, true>}};
  return *kTable[static_cast<int>(tile_kind(t.format))][t.layout == kTilesRopeHalves];
}

}  // namespace mxgpt::cuda
