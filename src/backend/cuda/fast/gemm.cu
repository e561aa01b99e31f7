#include <algorithm>

#include "backend/cuda/fast/device.cuh"
#include "backend/cuda/fast/gemm.h"
#include "backend/cuda/fast/launch.cuh"

namespace mxgpt::cuda::fast {
namespace {

constexpr int kThreads = 256, kRowWarps = 4, kTokenWarps = 2;
constexpr int kTiles = 16;  ///< of eight rows, of a block; four a warp
constexpr int kStages = 4;  ///< of activations in shared memory

__global__ void round_kernel(Round p) {
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * 4;
  if (i >= p.rows * p.columns) return;
  const int64_t row = i / p.columns;
  const int column = static_cast<int>(i % p.columns);
  float4 v{};
  if (column < p.k) v = *reinterpret_cast<const float4*>(p.in + row * p.k + column);
  *reinterpret_cast<uint2*>(p.out + i) = {bits(__floats2bfloat162_rn(v.x, v.y)),
                                          bits(__floats2bfloat162_rn(v.z, v.w))};
}

__device__ inline uint32_t times(uint32_t a, uint32_t b) {
  asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(a) : "r"(b), "r"(0x80008000u));
  return a;
}

/// What a lane holds of one pair of a tile, as it lies in memory.
template <Kind kind>
struct Fragment {
  uint32_t words[kind == Kind::q8_0 ? 4 : kind == Kind::mxfp4 ? 2 : 8];
  uint32_t scales = 0;  ///< of both blocks

  __device__ void load(const uint8_t* chunk, int pair) {
    const int lane = threadIdx.x % 32, r = lane / 4;
    const uint8_t* const at = chunk + pair * element_bytes(kind);
    const uint8_t* const scale = chunk + chunk_pairs(kind) * element_bytes(kind);
    if constexpr (kind == Kind::q8_0) {
      *reinterpret_cast<uint4*>(words) = __ldg(reinterpret_cast<const uint4*>(at) + lane);
      scales = __ldg(reinterpret_cast<const uint32_t*>(scale) + pair * 8 + r);
    } else if constexpr (kind == Kind::mxfp4) {
      *reinterpret_cast<uint2*>(words) = __ldg(reinterpret_cast<const uint2*>(at) + lane);
      scales = __ldg(reinterpret_cast<const uint16_t*>(scale) + pair * 8 + r);
    } else {
      reinterpret_cast<uint4*>(words)[0] = __ldg(reinterpret_cast<const uint4*>(at) + lane);
      reinterpret_cast<uint4*>(words)[1] = __ldg(reinterpret_cast<const uint4*>(at) + 32 + lane);
    }
  }
  /// Elements 0-1, 2-3, 4-5, 6-7 of a block.
  __device__ void values(int block, uint32_t out[4]) const {
    if constexpr (kind == Kind::q8_0) {
      const float scale = __half2float(
          __ushort_as_half(static_cast<unsigned short>(block ? scales >> 16 : scales & 0xffff)));
      for (int i = 0; i < 4; ++i) {
        // A byte with its sign flipped, as the mantissa of 2^23 + byte.
        const uint32_t biased = words[2 * block + i / 2] ^ 0x80808080u;
        const float a = __uint_as_float(__byte_perm(biased, 0x4b000000, 0x7440 + i % 2 * 2));
        const float b = __uint_as_float(__byte_perm(biased, 0x4b000000, 0x7441 + i % 2 * 2));
        out[i] = bits(__floats2bfloat162_rn((a - 8388736.f) * scale, (b - 8388736.f) * scale));
      }
    } else if constexpr (kind == Kind::mxfp4) {
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

/// A block: 128 rows of a slice by kTokens tokens. A warp: 32 rows by half of them. Weights go
/// straight to registers, a pair ahead; activations through shared memory, where 16-byte pieces of
/// odd tokens are exchanged, so that a load of two tokens' pieces touches every bank once.
template <Kind kind, int kTokens>
__global__ void __launch_bounds__(kThreads, 2) gemm_kernel(Gemm p) {
  constexpr int kColumns = kTokens / kTokenWarps / 8;  // of eight tokens, of a warp
  constexpr int kStageBytes = kTokens * kPair * 2;
  extern __shared__ __align__(128) uint8_t shared[];
  const Work work = work_of<kTokens>(p, blockIdx.y);
  if (work.count <= 0) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, t = lane % 4;
  const int first_tile = blockIdx.x * kTiles + warp % kRowWarps * 4;
  const int first_column = warp / kRowWarps * kColumns * 8;
  const int pairs = p.weight.pairs(), columns = pairs * kPair;

  // A thread copies these pieces of 16 bytes of every stage.
  constexpr int kPieces = kTokens * 8 / kThreads;
  const uint16_t* from[kPieces];
  uint32_t to[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int piece = i * kThreads + threadIdx.x, token = piece / 8, part = piece % 8;
    const int at = work.first + min(token, work.count - 1);
    const int64_t row = p.x_rows ? p.x_rows[at] : at;
    from[i] = p.x + row * columns + part * 8;
    to[i] = token * 128 + (part ^ (token & 1) << 2) * 16;
  }
  const uint32_t base = shared_address(shared);
  const auto fetch = [&](int pair) {
    if (pair < pairs) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                         base + pair % kStages * kStageBytes + to[i]),
                     "l"(from[i] + pair * kPair));
    }
    asm volatile("cp.async.commit_group;");
  };

  const uint8_t* tile[4];
  for (int i = 0; i < 4; ++i)
    tile[i] = p.weight.data + work.slice * p.weight.slice_bytes() +
              min(first_tile + i, p.weight.tiles() - 1) * p.weight.tile_bytes();
  Fragment<kind> weights[4];
  int chunk = 0, in_chunk = 0;
  const auto load_weights = [&] {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[i].load(tile[i] + chunk * chunk_pairs(kind) * pair_bytes(kind), in_chunk);
    if (++in_chunk == chunk_pairs(kind)) in_chunk = 0, ++chunk;
  };

  float sum[2][kColumns][4] = {};
  load_weights();
  for (int i = 0; i < kStages - 1; ++i) fetch(i);
#pragma unroll 1
  for (int pair = 0; pair < pairs; ++pair) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2));
    __syncthreads();
    fetch(pair + kStages - 1);
    const uint8_t* const stage = shared + pair % kStages * kStageBytes;
    Fragment<kind> now[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) now[i] = weights[i];
    if (pair + 1 < pairs) load_weights();
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      uint32_t a[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) now[i].values(block, a[i]);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const int token = first_column + n * 8 + r;
        const uint4 b = *reinterpret_cast<const uint4*>(stage + token * 128 +
                                                        ((block * 4 + t) ^ (token & 1) << 2) * 16);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const uint32_t low[4] = {a[2 * m][0], a[2 * m + 1][0], a[2 * m][1], a[2 * m + 1][1]};
          const uint32_t high[4] = {a[2 * m][2], a[2 * m + 1][2], a[2 * m][3], a[2 * m + 1][3]};
          mma_bf16(sum[m][n], low, b.x, b.y);
          mma_bf16(sum[m][n], high, b.z, b.w);
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = (first_tile + 2 * m + half) * kTileRows + r;
      if (at >= p.weight.rows) continue;
      const int row = source_row(p.order, at);
      const float bias = p.bias ? p.bias[int64_t{work.slice} * p.weight.rows + row] : 0.f;
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int token = first_column + n * 8 + 2 * t + j;
          if (token >= work.count) continue;
          float& out = p.out[int64_t{work.first + token} * p.weight.rows + row];
          const float y = sum[m][n][2 * half + j] + bias;
          out = p.add ? out + y : y;
        }
    }
}

template <Kind kind, int kTokens>
void launch_gemm(const Gemm& p, CUstream_st* stream) {
  const int shared = kStages * kTokens * kPair * 2;
  const auto kernel = gemm_kernel<kind, kTokens>;
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  // Of slices, each may have one tile that is not full.
  const int tiles = (p.tokens + kTokens - 1) / kTokens + (p.begin ? p.slices : 0);
  const dim3 grid((p.weight.tiles() + kTiles - 1) / kTiles, tiles);
  kernel<<<grid, kThreads, shared, stream>>>(p);
}

template <Kind kind>
void gemm_of(const Gemm& p, CUstream_st* stream) {
  const int tokens = p.tokens / p.slices;  // of a slice, on average
  if (tokens <= 24)
    launch_gemm<kind, 32>(p, stream);
  else if (tokens <= 80)
    launch_gemm<kind, 64>(p, stream);
  else
    launch_gemm<kind, 128>(p, stream);
}

}  // namespace

void round_to_bf16(const Round& p, CUstream_st* stream) {
  const int64_t threads = p.rows * p.columns / 4;
  if (threads > 0)
    round_kernel<<<static_cast<unsigned>((threads + 255) / 256), 256, 0, stream>>>(p);
}

void gemm(const Gemm& p, CUstream_st* stream) {
  if (p.tokens <= 0) return;
  if (p.weight.kind == Kind::q8_0)
    gemm_of<Kind::q8_0>(p, stream);
  else if (p.weight.kind == Kind::mxfp4)
    gemm_of<Kind::mxfp4>(p, stream);
  else
    gemm_of<Kind::bf16>(p, stream);
}

}  // namespace mxgpt::cuda::fast
