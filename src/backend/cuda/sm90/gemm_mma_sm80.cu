#include <algorithm>

#include "backend/cuda/sm90/gemm.cuh"
#include "backend/cuda/sm90/launch.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kThreads = 256, kRowWarps = 4, kTokenWarps = 2;
constexpr int kTiles = 16;  ///< tiles of eight rows per block; four per warp
constexpr int kStages = 4;  ///< activation stages in shared memory

/// Block tile: 128 rows of a slice × kTokens tokens. Warp tile: 32 rows × half of the tokens.
/// Weights are loaded straight to registers, one pair ahead. Activations pass through shared
/// memory, with the 16-byte units of odd tokens swizzled so that loads have no bank conflicts.
template <WeightType kind, int kTokens, bool kGateUp>
__global__ void __launch_bounds__(kThreads, 2) gemm_kernel(Gemm p) {
  constexpr int kColumns = kTokens / kTokenWarps / 8;  // blocks of eight tokens per warp
  constexpr int kStageBytes = kTokens * kPair * 2;
  extern __shared__ __align__(128) uint8_t shared[];
  const Work work = work_of<kTokens>(p, blockIdx.y);
  if (work.count <= 0) return;
  const int row_block = select(p, blockIdx.x, kTiles);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, t = lane % 4;
  const int first_tile = row_block * kTiles + warp % kRowWarps * 4;
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
  for (int i = 0; i < 4; ++i) tile[i] = tile_of<kGateUp>(p, work.slice, first_tile, i);
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

  store<kGateUp>(p, work, first_tile, first_column, sum);
}

template <WeightType kind, int kTokens, bool kGateUp>
void launch_gemm(const Gemm& p, CUstream_st* stream) {
  const int shared = kStages * kTokens * kPair * 2;
  const auto kernel = gemm_kernel<kind, kTokens, kGateUp>;
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  // Each slice may have one partial tile.
  const int tiles = (p.tokens + kTokens - 1) / kTokens + (p.begin ? p.slices : 0);
  const dim3 grid(row_blocks_of(p, kTiles), tiles);
  kernel<<<grid, kThreads, shared, stream>>>(p);
}

template <WeightType kind, bool kGateUp>
void gemm_of(const Gemm& p, CUstream_st* stream) {
  const int tokens = p.tokens / p.slices;  // of a slice, on average
  if (tokens <= 24)
    launch_gemm<kind, 32, kGateUp>(p, stream);
  else if (tokens <= 80)
    launch_gemm<kind, 64, kGateUp>(p, stream);
  else
    launch_gemm<kind, 128, kGateUp>(p, stream);
}

}  // namespace

void gemm(const Gemm& p, CUstream_st* stream) {
  if (p.tokens <= 0) return;
  if (p.permuted) return gemm_wgmma(p, stream);
  if (use_small_m(p)) return gemm_small_m(p, stream);
  if (p.up.data)
    gemm_of<WeightType::mxfp4, true>(p, stream);
  else if (p.weight.kind == WeightType::q8_0)
    gemm_of<WeightType::q8_0, false>(p, stream);
  else if (p.weight.kind == WeightType::mxfp4)
    gemm_of<WeightType::mxfp4, false>(p, stream);
  else
    gemm_of<WeightType::bf16, false>(p, stream);
}

}  // namespace mxgpt::cuda::sm90
