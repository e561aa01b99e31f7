#include "backend/cuda/generic/gemm.cuh"
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/pack.h"
#include "backend/cuda/weight_repack.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::cuda {
namespace {

using sm90::WeightType;

/// A row in tiles of sm90/layout.h, by blocks of 32 columns.
template <WeightType kKind, bool kRopeHalves>
class TileRow {
 public:
  static constexpr bool kGroups = kKind != WeightType::bf16;

  __device__ TileRow(const GemmParams& p, int slice, int row) {
    shape_ = {reinterpret_cast<const uint8_t*>(p.weights), kKind, p.rows, p.k};
    int tile = row / sm90::kTileRows;
    row_ = row % sm90::kTileRows;
    if constexpr (kRopeHalves) {
      const int in_head = row % 64, in_half = in_head % 32;
      tile = row / 64 * 8 + in_half / 4;
      row_ = in_half % 4 + in_head / 32 * 4;
    }
    tile_ = shape_.data + slice * shape_.slice_bytes() + tile * shape_.tile_bytes();
  }

  __device__ __forceinline__ void decode(int at, int, float (&w)[quant::kQuantGroup]) const {
    const int block = at / quant::kQuantGroup, pair = block / 2, half = block % 2;
    constexpr int pairs = sm90::chunk_pairs(kKind);
    const int first = pair / pairs * pairs;
    const uint8_t* chunk = tile_ + static_cast<int64_t>(first) * sm90::pair_bytes(kKind);
    const uint8_t* elements = chunk + (pair - first) * sm90::element_bytes(kKind);
    const uint8_t* scales = chunk + pairs * sm90::element_bytes(kKind);
    const int scale = ((pair - first) * sm90::kTileRows + row_) * 2 + half;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const int lane = 4 * row_ + t;
      if constexpr (kKind == WeightType::q8_0) {
        const uint2 words = *reinterpret_cast<const uint2*>(elements + lane * 16 + half * 8);
        const float s = quant::f16_to_f32(reinterpret_cast<const uint16_t*>(scales)[scale]);
#pragma unroll
        for (int e = 0; e < 8; ++e)
          w[8 * t + e] = s * static_cast<float>(
                                 static_cast<int8_t>((e < 4 ? words.x : words.y) >> (e % 4 * 8)));
      } else if constexpr (kKind == WeightType::mxfp4) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(elements + lane * 8 + half * 4);
        const float s = quant::Mxfp4::half_scale(scales[scale]);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          int code = 0;
#pragma unroll
          for (int bit = 0; bit < 4; ++bit)
            code |= static_cast<int>(word >> sm90::nibble_bit(e, bit) & 1) << bit;
          w[8 * t + e] = s * static_cast<float>(quant::Mxfp4::e2m1_times2(code));
        }
      } else {
        const uint4 words = *reinterpret_cast<const uint4*>(elements + half * 512 + lane * 16);
        const uint32_t pairs_of[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int e = 0; e < 8; ++e)
          w[8 * t + e] = quant::bf16_to_f32(static_cast<uint16_t>(pairs_of[e / 2] >> (e % 2 * 16)));
      }
    }
  }

 private:
  sm90::PackedWeight shape_;
  const uint8_t* tile_;
  int row_;
};

template <WeightType kKind, bool kRopeHalves>
constexpr FormatKernels kKernels{launch_gemv<TileRow<kKind, kRopeHalves>>,
                                 launch_gemm<TileRow<kKind, kRopeHalves>>, nullptr};

}  // namespace

bool supports_sm90() {
  return sm90::is_supported_here();
}

void repack(const backend::Tensor& t, const std::byte* blocks, CudaStream stream) {
  sm90::pack({.kind = weight_type(t.format),
              .order = t.layout == kMmaTilesRopePaired ? sm90::RowOrder::rope_halves_64
                                                       : sm90::RowOrder::natural,
              .slices = t.num_experts,
              .rows = static_cast<int>(t.rows),
              .k = static_cast<int>(t.k),
              .blocks = blocks,
              .packed = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(t.data))},
             stream);
}

const FormatKernels& mma_tile_kernels(const backend::Tensor& t) {
  static constexpr const FormatKernels* kTable[3][2] = {
      {&kKernels<WeightType::q8_0, false>, &kKernels<WeightType::q8_0, true>},
      {&kKernels<WeightType::mxfp4, false>, &kKernels<WeightType::mxfp4, true>},
      {&kKernels<WeightType::bf16, false>, &kKernels<WeightType::bf16, true>}};
  return *kTable[static_cast<int>(weight_type(t.format))][t.layout == kMmaTilesRopePaired];
}

}  // namespace mxgpt::cuda
