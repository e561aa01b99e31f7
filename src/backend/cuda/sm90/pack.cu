#include <cuda_runtime.h>

#include "backend/cuda/sm90/pack.h"

namespace mxgpt::cuda::sm90 {
namespace {

/// Each thread writes one lane's eight elements of one block, and the block's scale if it is the
/// row's first lane.
__global__ void pack_kernel(Pack p, PackedWeight shape, int64_t count) {
  const int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (i >= count) return;
  const int t = static_cast<int>(i % 4), r = static_cast<int>(i / 4 % 8);
  int64_t rest = i / 32;
  const int block = static_cast<int>(rest % (2 * shape.pairs()));
  rest /= 2 * shape.pairs();
  const int tile = static_cast<int>(rest % shape.tiles());
  const int64_t slice = rest / shape.tiles();

  const int pair = block / 2, chunk = pair / chunk_pairs(p.kind);
  const int first = chunk * chunk_pairs(p.kind), pairs = chunk_pairs(p.kind);
  uint8_t* const at = p.packed + slice * shape.slice_bytes() + tile * shape.tile_bytes() +
                      size_t{1} * first * pair_bytes(p.kind);
  const int in_chunk = pair - first, half = block % 2, lane = 4 * r + t;
  uint8_t* const scales = at + pairs * element_bytes(p.kind);
  const int scale_index = (in_chunk * 8 + r) * 2 + half;

  const int row = source_row(p.order, tile * kTileRows + r);
  const bool inside = row < p.rows && block * kBlock < p.k;
  const int64_t source_block =
      (slice * p.rows + row) * (p.k / kBlock) + block;  // of formats with scales

  if (p.kind == WeightType::q8_0) {
    const uint8_t* from = reinterpret_cast<const uint8_t*>(p.blocks) + source_block * 34;
    uint8_t* to = at + in_chunk * 512 + lane * 16 + half * 8;
    for (int e = 0; e < 8; ++e) to[e] = inside ? from[2 + 8 * t + e] : 0;
    if (t == 0)
      for (int e = 0; e < 2; ++e) scales[scale_index * 2 + e] = inside ? from[e] : 0;
  } else if (p.kind == WeightType::mxfp4) {
    const uint8_t* from = reinterpret_cast<const uint8_t*>(p.blocks) + source_block * 17;
    // Elements of a block whose scale is NaN become zeros: the kernels make its scale an infinity,
    // and zero times infinity is NaN, whatever the activations.
    const bool zero = !inside || from[0] == 0xff;
    uint32_t word = 0;
    for (int e = 0; e < 8; ++e) {
      const int element = 8 * t + e;
      const int nibble = zero ? 0 : from[1 + element % 16] >> (element < 16 ? 0 : 4) & 15;
      for (int bit = 0; bit < 4; ++bit)
        word |= static_cast<uint32_t>(nibble >> bit & 1) << nibble_bit(e, bit);
    }
    *reinterpret_cast<uint32_t*>(at + in_chunk * 256 + lane * 8 + half * 4) = word;
    if (t == 0) scales[scale_index] = inside ? from[0] : 0;
  } else {
    const uint16_t* from =
        reinterpret_cast<const uint16_t*>(p.blocks) + (slice * p.rows + row) * p.k;
    uint16_t* to = reinterpret_cast<uint16_t*>(at + in_chunk * 1024 + half * 512 + lane * 16);
    for (int e = 0; e < 8; ++e) {
      const int column = block * kBlock + 8 * t + e;
      to[e] = row < p.rows && column < p.k ? from[column] : 0;
    }
  }
}

}  // namespace

void pack(const Pack& p, CUstream_st* stream) {
  const PackedWeight shape{nullptr, p.kind, p.rows, p.k};
  const int64_t count = p.slices * shape.tiles() * shape.pairs() * 2 * 32;
  if (count > 0)
    pack_kernel<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(p, shape, count);
}

}  // namespace mxgpt::cuda::sm90
