// Shared by the GEMMs over packed weights: bfloat16 weight fragments, token tiles, and the
// epilogue.
#pragma once

#include "backend/cuda/sm90/gemm.h"
#include "backend/cuda/sm90/ptx.cuh"
#include "backend/cuda/sm90/swiglu.cuh"

namespace mxgpt::cuda::sm90 {

__device__ inline uint32_t times(uint32_t a, uint32_t b) {
  asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(a) : "r"(b), "r"(0x80008000u));
  return a;
}

/// One lane's packed elements of one pair of a tile.
template <WeightType kind>
struct Fragment {
  uint32_t words[kind == WeightType::q8_0 ? 4 : kind == WeightType::mxfp4 ? 2 : 8];
  uint32_t scales = 0;  ///< of both blocks

  __device__ void load(const uint8_t* chunk, int pair) {
    const int lane = threadIdx.x % 32, r = lane / 4;
    const uint8_t* const at = chunk + pair * element_bytes(kind);
    const uint8_t* const scale = chunk + chunk_pairs(kind) * element_bytes(kind);
    if constexpr (kind == WeightType::q8_0) {
      *reinterpret_cast<uint4*>(words) = reinterpret_cast<const uint4*>(at)[lane];
      scales = reinterpret_cast<const uint32_t*>(scale)[pair * 8 + r];
    } else if constexpr (kind == WeightType::mxfp4) {
      *reinterpret_cast<uint2*>(words) = reinterpret_cast<const uint2*>(at)[lane];
      scales = reinterpret_cast<const uint16_t*>(scale)[pair * 8 + r];
    } else {
      reinterpret_cast<uint4*>(words)[0] = reinterpret_cast<const uint4*>(at)[lane];
      reinterpret_cast<uint4*>(words)[1] = reinterpret_cast<const uint4*>(at)[32 + lane];
    }
  }
  /// Elements 0-1, 2-3, 4-5, 6-7 of a block.
  __device__ void values(int block, uint32_t out[4]) const {
    if constexpr (kind == WeightType::q8_0) {
      const float scale = __half2float(
          __ushort_as_half(static_cast<unsigned short>(block ? scales >> 16 : scales & 0xffff)));
      for (int i = 0; i < 4; ++i) {
        // A byte with its sign flipped, as the mantissa of 2^23 + byte.
        const uint32_t biased = words[2 * block + i / 2] ^ 0x80808080u;
        const float a = __uint_as_float(__byte_perm(biased, 0x4b000000, 0x7440 + i % 2 * 2));
        const float b = __uint_as_float(__byte_perm(biased, 0x4b000000, 0x7441 + i % 2 * 2));
        out[i] = bits(__floats2bfloat162_rn((a - 8388736.f) * scale, (b - 8388736.f) * scale));
      }
    } else if constexpr (kind == WeightType::mxfp4) {
      unpack_e2m1(words[block], out);
      // The scale as bfloat16: its exponent, or the subnormal 2^-127.
      const uint32_t scale = max((block ? scales >> 8 : scales & 0xff) << 7, 0x40u);
      for (int i = 0; i < 4; ++i) out[i] = times(out[i], scale | scale << 16);
    } else {
      for (int i = 0; i < 4; ++i) out[i] = words[4 * block + i];
    }
  }
};

struct Work {
  int slice, first, count;  ///< tokens
};

/// The block's tile of tokens: slices one behind the other, each cut into tiles.
template <int kTokens>
__device__ inline Work work_of(const Gemm& p, int tile) {
  if (!p.begin) return {0, tile * kTokens, min(kTokens, p.tokens - tile * kTokens)};
  const int lane = threadIdx.x % 32;
  for (int base = 0; base < p.slices; base += 32) {
    const int slice = base + lane;
    const int first = slice < p.slices ? p.begin[slice] : 0;
    const int count = slice < p.slices ? p.begin[slice + 1] - first : 0;
    int end = (count + kTokens - 1) / kTokens;  // of this and all lower lanes' tiles
    for (int step = 1; step < 32; step *= 2) {
      const int lower = __shfl_up_sync(0xffffffff, end, step);
      if (lane >= step) end += lower;
    }
    const unsigned holds = __ballot_sync(0xffffffff, tile < end);
    if (holds) {
      const int source = __ffs(holds) - 1;
      const int own = (count + kTokens - 1) / kTokens;
      const int local = tile - (end - own);
      const int at = __shfl_sync(0xffffffff, first + local * kTokens, source);
      const int left = __shfl_sync(0xffffffff, count - local * kTokens, source);
      return {base + source, at, min(kTokens, left)};
    }
    tile -= __shfl_sync(0xffffffff, end, 31);
  }
  return {0, 0, 0};
}

/// Pieces of work of persistent blocks, in the order in which they take them: all rows of one tile
/// of tokens first, which share the activations.
template <int kTokens>
struct TileSequence {
  int row_blocks, index;
  __device__ explicit TileSequence(int row_blocks) : row_blocks(row_blocks), index(blockIdx.x) {}
  __device__ Work work(const Gemm& p) const {
    const int tile = index / row_blocks;
    if (!p.begin && tile * kTokens >= p.tokens) return {0, 0, 0};
    return work_of<kTokens>(p, tile);
  }
  __device__ int row_block() const { return index % row_blocks; }
  __device__ void next() { index += gridDim.x; }
};

/// Four activations from `column` on, a multiple of 4.
__device__ inline void store_four(uint16_t* row, int column, float4 v, bool permuted) {
  const uint32_t low = bits(__floats2bfloat162_rn(v.x, v.y));
  const uint32_t high = bits(__floats2bfloat162_rn(v.z, v.w));
  if (permuted) {
    *reinterpret_cast<uint32_t*>(row + mma_k_permutation(column)) = low;
    *reinterpret_cast<uint32_t*>(row + mma_k_permutation(column + 2)) = high;
  } else {
    *reinterpret_cast<uint2*>(row + column) = {low, high};
  }
}

/// Makes p the product that a block of rows is of, and returns which of its blocks that is.
__device__ inline int select(Gemm& p, int block, int tiles_of_block) {
#pragma unroll
  for (const GemmProblem& part : p.also) {
    const int blocks = (p.weight.tiles() + tiles_of_block - 1) / tiles_of_block;
    if (block < blocks || !part.weight.data) break;
    block -= blocks;
    p.weight = part.weight, p.order = part.order, p.bias = part.bias, p.out = part.out;
  }
  return block;
}

/// A warp has four tiles of eight rows, from `first` on: of a product their rows, of gate and up
/// half as many of each, side by side, so that a lane has both of what SwiGLU takes.
template <bool kGateUp>
__device__ inline const uint8_t* tile_of(const Gemm& p, int slice, int first, int i) {
  const PackedWeight& w = kGateUp && i % 2 ? p.up : p.weight;
  const int tile = kGateUp ? first / 2 + i / 2 : first + i;
  return w.data + slice * w.slice_bytes() + min(tile, w.tiles() - 1) * w.tile_bytes();
}

/// Results of a warp's tiles from `first` on, as mma_bf16 leaves them: sum[m] is of tiles 2 m and
/// 2 m + 1, sum[m][n] of tokens 8 n … 8 n + 7 from the work's `token` on.
template <bool kGateUp, int kPairs, int kColumns>
__device__ inline void store(const Gemm& p, const Work& work, int first, int token,
                             const float (&sum)[kPairs][kColumns][4]) {
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  const int64_t bias_at = int64_t{work.slice} * p.weight.rows;
#pragma unroll
  for (int m = 0; m < kPairs; ++m) {
    if constexpr (kGateUp) {
      const int row = (first / 2 + m) * kTileRows + r,
                columns = gemm_columns(WeightType::mxfp4, p.weight.rows);
      if (row >= columns) continue;
      const int column = p.permuted ? mma_k_permutation(row) : row;
      const bool inside = row < p.weight.rows;
      const float gate_bias = inside ? p.bias[bias_at + row] : 0.f;
      const float up_bias = inside ? p.up_bias[bias_at + row] : 0.f;
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int at = token + n * 8 + 2 * t + j;
          if (at >= work.count) continue;
          const float v = swiglu(sum[m][n][j] + gate_bias, sum[m][n][2 + j] + up_bias, p.swiglu);
          const __nv_bfloat16 narrow = __float2bfloat16(inside ? v : 0.f);
          p.activated[int64_t{work.first + at} * columns + column] =
              reinterpret_cast<const uint16_t&>(narrow);
        }
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int tile_row = (first + 2 * m + half) * kTileRows + r;
        if (tile_row >= p.weight.rows) continue;
        const int row = source_row(p.order, tile_row);
        const float bias = p.bias ? p.bias[bias_at + row] : 0.f;
#pragma unroll
        for (int n = 0; n < kColumns; ++n)
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int at = token + n * 8 + 2 * t + j;
            if (at >= work.count) continue;
            float& out = p.out[int64_t{work.first + at} * p.weight.rows + row];
            const float y = sum[m][n][2 * half + j] + bias;
            out = p.add ? out + y : y;
          }
      }
    }
  }
}

/// Tiles that a product has, of gate and up both, filled up to the columns of what they make.
inline int tiles_of(const Gemm& p) {
  return p.up.data ? 2 * gemm_columns(WeightType::mxfp4, p.weight.rows) / kTileRows
                   : p.weight.tiles();
}

/// Blocks of rows of all parts.
inline int row_blocks_of(const Gemm& p, int tiles_of_block) {
  const auto blocks = [&](int tiles) { return (tiles + tiles_of_block - 1) / tiles_of_block; };
  int all = blocks(tiles_of(p));
  for (const GemmProblem& part : p.also) all += blocks(part.weight.tiles());
  return all;
}

}  // namespace mxgpt::cuda::sm90
