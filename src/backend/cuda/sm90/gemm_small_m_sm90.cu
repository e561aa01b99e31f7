// GEMM with few tokens per slice, as in the experts of a decode step of many sequences; bound by
// weight bandwidth. Persistent blocks: one warp issues bulk copies of weights and activations into
// a ring of stages, the others multiply. The ring continues across tiles.
#include <algorithm>

#include "backend/cuda/sm90/gemm.cuh"
#include "backend/cuda/sm90/launch.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kWarps = 8, kThreads = 32 * (kWarps + 1);
constexpr int kTiles = 4 * kWarps;  ///< tiles of eight rows per block; four per warp
static_assert(kTiles == 32, "the warp that fetches has a lane for each");
constexpr int kSharedBytes = 227 * 1024;

template <WeightType kind, int kTokens>
struct Stage {
  static constexpr int kPairs = chunk_pairs(kind), kTileBytes = kPairs * pair_bytes(kind);
  static constexpr int kRowBytes = kPairs * kPair * 2;  ///< activations of one token
  static constexpr int kPitch = kRowBytes + 64;  ///< padding avoids bank conflicts between tokens
  static constexpr int kTokensAt = kTiles * kTileBytes;
  static constexpr int kBytes = kTokensAt + kTokens * kPitch;
  static constexpr int kStages = std::min(4, (kSharedBytes - 128) / kBytes);
  static constexpr int kAllBytes = kStages * kBytes + 128;  ///< barriers behind
  static_assert(kStages >= 2 && kTokens <= 32 * 4);
};

/// One pair of columns of a warp's four tiles, which lie one behind the other, times the tokens of
/// a stage.
template <WeightType kind, int kTokens>
__device__ inline void multiply_pairs(const uint8_t* tiles, const uint8_t* tokens, int tile_bytes,
                                      int pitch, int pair, int count,
                                      float (&sum)[2][kTokens / 8][4]) {
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  Fragment<kind> weights[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) weights[i].load(tiles + i * tile_bytes, pair);
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    uint32_t a[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) weights[i].values(block, a[i]);
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
      if (n * 8 >= count) break;  // beyond is what an earlier stage left
      const uint4 b = *reinterpret_cast<const uint4*>(tokens + (n * 8 + r) * pitch + pair * 128 +
                                                      block * 64 + t * 16);
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

template <WeightType kind, int kTokens, bool kGateUp>
__global__ void __launch_bounds__(kThreads, 1) stream_kernel(Gemm p, int row_blocks) {
  using S = Stage<kind, kTokens>;
  extern __shared__ __align__(128) uint8_t shared[];
  Barrier* const full = reinterpret_cast<Barrier*>(shared + S::kStages * S::kBytes);
  Barrier* const empty = full + S::kStages;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) full[i].init(1), empty[i].init(kWarps);
    publish_barriers();
  }
  __syncthreads();
  const int chunks = p.weight.chunks();
  int slot = 0;
  uint32_t phase = warp == kWarps;  // the ring is empty
  const auto advance = [&] {
    if (++slot == S::kStages) slot = 0, phase ^= 1;
  };

  if (warp == kWarps) {
    const uint64_t policy = evict_first_policy();
    const int columns = gemm_columns(kind, p.weight.k);
    for (TileSequence<kTokens> pieces(row_blocks);; pieces.next()) {
      const Work work = pieces.work(p);
      if (work.count <= 0) return;
      const uint8_t* const tile =
          tile_of<kGateUp>(p, work.slice, pieces.row_block() * kTiles + (lane & ~3), lane % 4);
      const uint16_t* rows[kTokens / 32];
#pragma unroll
      for (int i = 0; i < kTokens / 32; ++i) {
        const int at = work.first + min(lane + 32 * i, work.count - 1);
        rows[i] = p.x + int64_t{p.x_rows ? p.x_rows[at] : at} * columns;
      }
#pragma unroll 1
      for (int chunk = 0; chunk < chunks; ++chunk) {
        uint8_t* const stage = shared + slot * S::kBytes;
        empty[slot].wait(phase);
        if (lane == 0) full[slot].expect(kTiles * S::kTileBytes + work.count * S::kRowBytes);
        __syncwarp();
        bulk_copy(stage + lane * S::kTileBytes, tile + chunk * S::kTileBytes, S::kTileBytes,
                  full[slot], policy);
#pragma unroll
        for (int i = 0; i < kTokens / 32; ++i)
          if (lane + 32 * i < work.count)
            bulk_copy(stage + S::kTokensAt + (lane + 32 * i) * S::kPitch,
                      rows[i] + chunk * S::kPairs * kPair, S::kRowBytes, full[slot]);
        advance();
      }
    }
  }

  for (TileSequence<kTokens> pieces(row_blocks);; pieces.next()) {
    const Work work = pieces.work(p);
    if (work.count <= 0) return;
    float sum[2][kTokens / 8][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const uint8_t* const stage = shared + slot * S::kBytes;
      full[slot].wait(phase);
#pragma unroll
      for (int pair = 0; pair < S::kPairs; ++pair)
        multiply_pairs<kind, kTokens>(stage + warp * 4 * S::kTileBytes, stage + S::kTokensAt,
                                      S::kTileBytes, S::kPitch, pair, work.count, sum);
      __syncwarp();
      if (lane == 0) empty[slot].arrive();
      advance();
    }
    store<kGateUp>(p, work, pieces.row_block() * kTiles + warp * 4, 0, sum);
  }
}

template <WeightType kind, int kTokens, bool kGateUp>
void launch_stream(const Gemm& p, CUstream_st* stream) {
  const auto kernel = stream_kernel<kind, kTokens, kGateUp>;
  constexpr int kBytes = Stage<kind, kTokens>::kAllBytes;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const int row_blocks = row_blocks_of(p, kTiles);
  const int most = row_blocks * ((p.tokens + kTokens - 1) / kTokens + (p.begin ? p.slices : 0));
  kernel<<<std::min(most, multiprocessors()), kThreads, kBytes, stream>>>(p, row_blocks);
}

// A single slice with few rows gives too few blocks to fill the GPU unless each has few rows, and
// the time is then that of one block's loop over K. So the warps split K: each processes every
// eighth chunk, and their sums are added at the end.
constexpr int kSplitTiles = 4, kSplitTokens = 32, kSplitStages = 3;

template <WeightType kind>
struct SplitStage {
  using OneStage = Stage<kind, kSplitTokens>;
  static constexpr int kTokensAt = kSplitTiles * OneStage::kTileBytes;
  static constexpr int kBytes = kTokensAt + kSplitTokens * OneStage::kPitch;
  static constexpr int kSumBytes = kWarps * 32 * 32 * 4;
  static constexpr int kAllBytes = std::max(kSplitStages * kBytes, kSumBytes) + 128;
};

template <WeightType kind>
__global__ void __launch_bounds__(kThreads, 2) split_kernel(Gemm p) {
  using S = SplitStage<kind>;
  using W = typename S::OneStage;
  extern __shared__ __align__(128) uint8_t shared[];
  Barrier* const full = reinterpret_cast<Barrier*>(shared + S::kAllBytes - 128);
  Barrier* const empty = full + kSplitStages;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSplitStages; ++i) full[i].init(1), empty[i].init(kWarps);
    publish_barriers();
  }
  __syncthreads();
  const int columns = gemm_columns(kind, p.weight.k), chunks = p.weight.chunks();
  const int first_tile = select(p, blockIdx.x, kSplitTiles) * kSplitTiles;
  const Work work = work_of<kSplitTokens>(p, blockIdx.y);
  int slot = 0;
  uint32_t phase = warp == kWarps;  // the ring is empty
  const auto advance = [&] {
    if (++slot == kSplitStages) slot = 0, phase ^= 1;
  };

  if (warp == kWarps) {
    const uint8_t* const tile = tile_of<false>(p, 0, first_tile, lane % kSplitTiles);
    const uint16_t* const row = p.x + int64_t{work.first + min(lane, work.count - 1)} * columns;
    const uint64_t policy = evict_first_policy();
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
      uint8_t* const stage = shared + slot * S::kBytes;
      empty[slot].wait(phase);
      if (lane == 0) full[slot].expect(kSplitTiles * W::kTileBytes + work.count * W::kRowBytes);
      __syncwarp();
      if (lane < kSplitTiles)
        bulk_copy(stage + lane * W::kTileBytes, tile + chunk * W::kTileBytes, W::kTileBytes,
                  full[slot], policy);
      if (lane < work.count)
        bulk_copy(stage + S::kTokensAt + lane * W::kPitch, row + chunk * W::kPairs * kPair,
                  W::kRowBytes, full[slot]);
      advance();
    }
    return;
  }

  float sum[2][kSplitTokens / 8][4] = {};
#pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk) {
    // All wait for every chunk, and let every stage go: who skipped one could mistake a later
    // filling for it.
    full[slot].wait(phase);
    if (chunk % kWarps == warp) {
      const uint8_t* const stage = shared + slot * S::kBytes;
#pragma unroll 1
      for (int pair = 0; pair < W::kPairs; ++pair)
        multiply_pairs<kind, kSplitTokens>(stage, stage + S::kTokensAt, W::kTileBytes, W::kPitch,
                                           pair, work.count, sum);
    }
    __syncwarp();
    if (lane == 0) empty[slot].arrive();
    advance();
  }
  const auto meet = [] { asm volatile("bar.sync 1, %0;" ::"n"(32 * kWarps) : "memory"); };
  meet();  // all have read the last of the stages
  float* const sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int i = 0; i < 32; ++i) sums[(warp * 32 + i) * 32 + lane] = sum[i / 16][i / 4 % 4][i % 4];
  meet();
  // Warp 4 m + n ends with sum[m][n].
  float total[1][1][4] = {};
#pragma unroll
  for (int from = 0; from < kWarps; ++from)
#pragma unroll
    for (int j = 0; j < 4; ++j) total[0][0][j] += sums[(from * 32 + warp * 4 + j) * 32 + lane];
  store<false>(p, work, first_tile + warp / 4 * 2, warp % 4 * 8, total);
}

template <WeightType kind>
void launch_split(const Gemm& p, CUstream_st* stream) {
  constexpr int kBytes = SplitStage<kind>::kAllBytes;
  cudaFuncSetAttribute(split_kernel<kind>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const dim3 grid(row_blocks_of(p, kSplitTiles), (p.tokens + kSplitTokens - 1) / kSplitTokens);
  split_kernel<kind><<<grid, kThreads, kBytes, stream>>>(p);
}

/// Whether a matrix alone gives every multiprocessor some blocks of whole rows.
bool is_tall(const Gemm& p) {
  return p.weight.tiles() >= 2 * kTiles * multiprocessors();
}

template <WeightType kind>
void stream_one(const Gemm& p, CUstream_st* stream) {
  if (is_tall(p))
    launch_stream<kind, 32, false>(p, stream);
  else
    launch_split<kind>(p, stream);
}

}  // namespace

bool use_small_m(const Gemm& p) {
  static const bool here = is_supported_here();
  if (!here) return false;
  if (p.begin) return p.weight.kind == WeightType::mxfp4 && p.tokens <= 80 * p.slices;
  return p.tokens <= (is_tall(p) ? 32 : 128);
}

void gemm_small_m(const Gemm& p, CUstream_st* stream) {
  const bool few = p.tokens <= 24 * p.slices;
  if (!p.begin && p.weight.kind == WeightType::q8_0)
    stream_one<WeightType::q8_0>(p, stream);
  else if (!p.begin && p.weight.kind == WeightType::bf16)
    stream_one<WeightType::bf16>(p, stream);
  else if (!p.begin)
    stream_one<WeightType::mxfp4>(p, stream);
  else if (p.up.data)
    few ? launch_stream<WeightType::mxfp4, 32, true>(p, stream)
        : launch_stream<WeightType::mxfp4, 64, true>(p, stream);
  else
    few ? launch_stream<WeightType::mxfp4, 32, false>(p, stream)
        : launch_stream<WeightType::mxfp4, 64, false>(p, stream);
}

}  // namespace mxgpt::cuda::sm90
