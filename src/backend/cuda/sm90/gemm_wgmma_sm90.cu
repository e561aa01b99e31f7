// GEMM of many tokens with wgmma. Weights are decoded into registers as the left operand; tokens
// are the right operand, in shared memory. Persistent blocks: one producer warpgroup gathers tokens
// and bulk-copies weights, continuing across tiles; the others multiply, and while one decodes, the
// others keep the tensor cores busy.
#include <algorithm>
#include <type_traits>

#include "backend/cuda/sm90/gemm.cuh"
#include "backend/cuda/sm90/launch.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kGroup = 128;  ///< threads of a warpgroup
constexpr int kGroups = 3;   ///< consumer warpgroups, 64 rows each
constexpr int kTiles = 8 * kGroups, kTokens = 128, kThreads = kGroup * (kGroups + 1);
constexpr int kRowBytes = kPair * 2;  ///< of one token per stage
constexpr int kWeightStages = 2;
constexpr int kInFlight = 4;  ///< outstanding token copies per thread
constexpr int kSharedBytes = 227 * 1024;

template <WeightType kind>
struct DeviceArena {
  static constexpr int kPairs = chunk_pairs(kind), kTileBytes = kPairs * pair_bytes(kind);
  static constexpr int kWeightBytes = kTiles * kTileBytes, kTokenBytes = kTokens * kRowBytes;
  static constexpr int kAlignment = 1024;  ///< of what wgmma reads
  static constexpr int kFixed = kWeightStages * kWeightBytes + kAlignment + 256;
  static constexpr int kTokenStages = std::min(8, (kSharedBytes - kFixed) / kTokenBytes);
  static constexpr int kWeightsAt = kTokenStages * kTokenBytes;
  static constexpr int kBarriersAt = kWeightsAt + kWeightStages * kWeightBytes;
  static constexpr int kBytes = kBarriersAt + 256 + kAlignment;
  static_assert(kTokenStages > kInFlight && kBytes <= kSharedBytes);
};

struct Barriers {
  Barrier tokens_full[8], tokens_empty[8], weights_full[kWeightStages],
      weights_empty[kWeightStages];
};
static_assert(sizeof(Barriers) <= 256);

/// A place in a ring.
template <int kStages>
struct Place {
  int slot = 0;
  uint32_t phase;
  __device__ explicit Place(bool of_empty) : phase(of_empty) {}
  __device__ void advance() {
    if (++slot == kStages) slot = 0, phase ^= 1;
  }
};

// PTX ISA, wgmma: matrices of rows of 128 bytes, whose 16-byte pieces are exchanged by row mod 8.
[[maybe_unused]] __device__ inline uint64_t descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = 1ull << 62, kEightRows = 1024 >> 4;
  return kSwizzle128 | kEightRows << 32 | 1ull << 16 | (address & 0x3ffff) >> 4;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define MXGPT_WGMMA(...) asm volatile(__VA_ARGS__)
#else
#define MXGPT_WGMMA(...) __trap()
#endif

[[maybe_unused]] __device__ inline void begin_products() {
  MXGPT_WGMMA("wgmma.fence.sync.aligned;" ::: "memory");
}
[[maybe_unused]] __device__ inline void commit_products() {
  MXGPT_WGMMA("wgmma.commit_group.sync.aligned;" ::: "memory");
}
[[maybe_unused]] __device__ inline void wait_for_products() {
  MXGPT_WGMMA("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

#define MXGPT_FOUR(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
/// d (+)= a · tokens: 64 rows by 64 tokens.
[[maybe_unused]] __device__ inline void multiply_64(float (&d)[kTokens / 8][4], const uint32_t* a,
                                                    uint64_t tokens, int add) {
  MXGPT_WGMMA(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"
      "%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"
      : MXGPT_FOUR(0), MXGPT_FOUR(1), MXGPT_FOUR(2), MXGPT_FOUR(3), MXGPT_FOUR(4), MXGPT_FOUR(5),
        MXGPT_FOUR(6), MXGPT_FOUR(7)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(tokens), "r"(add));
}
/// 64 rows by 128 tokens.
[[maybe_unused]] __device__ inline void multiply_128(float (&d)[kTokens / 8][4], const uint32_t* a,
                                                     uint64_t tokens, int add) {
  MXGPT_WGMMA(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"
      "%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, "
      "p, 1, 1, 0;\n}"
      : MXGPT_FOUR(0), MXGPT_FOUR(1), MXGPT_FOUR(2), MXGPT_FOUR(3), MXGPT_FOUR(4), MXGPT_FOUR(5),
        MXGPT_FOUR(6), MXGPT_FOUR(7), MXGPT_FOUR(8), MXGPT_FOUR(9), MXGPT_FOUR(10), MXGPT_FOUR(11),
        MXGPT_FOUR(12), MXGPT_FOUR(13), MXGPT_FOUR(14), MXGPT_FOUR(15)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(tokens), "r"(add));
}
#undef MXGPT_FOUR
template <int kWidth>
__device__ inline void multiply_tokens(float (&d)[kTokens / 8][4], const uint32_t* a,
                                       uint64_t tokens, int add) {
  kWidth == 64 ? multiply_64(d, a, tokens, add) : multiply_128(d, a, tokens, add);
}

/// A pair of columns of a warp's two tiles, as the left operand of four products.
template <WeightType kind>
__device__ inline void decode(const uint8_t* tiles, int pair, uint32_t (&a)[16]) {
  Fragment<kind> upper, lower;
  upper.load(tiles, pair);
  lower.load(tiles + DeviceArena<kind>::kTileBytes, pair);
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    uint32_t u[4], l[4];
    upper.values(block, u);
    lower.values(block, l);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t* const to = a + (2 * block + half) * 4;
      to[0] = u[2 * half], to[1] = l[2 * half], to[2] = u[2 * half + 1], to[3] = l[2 * half + 1];
    }
  }
}

template <WeightType kind, bool kGateUp>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(Gemm all, int row_blocks) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using R = DeviceArena<kind>;
  extern __shared__ uint8_t unaligned[];
  uint8_t* const shared =
      unaligned + (R::kAlignment - shared_address(unaligned) % R::kAlignment) % R::kAlignment;
  Barriers& barriers = *reinterpret_cast<Barriers*>(shared + R::kBarriersAt);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = threadIdx.x / kGroup;
  if (threadIdx.x == 0) {
    for (int i = 0; i < R::kTokenStages; ++i)
      barriers.tokens_full[i].init(kGroup), barriers.tokens_empty[i].init(4 * kGroups);
    for (int i = 0; i < kWeightStages; ++i)
      barriers.weights_full[i].init(1), barriers.weights_empty[i].init(kGroups * kGroup);
    publish_barriers();
  }
  __syncthreads();
  const int pairs = all.weight.pairs();

  if (group == kGroups) {
    const int thread = threadIdx.x % kGroup, part = thread % 8, first = thread / 8;
    const int columns = pairs * kPair;
    const uint32_t to = shared_address(shared) + first * kRowBytes + (part ^ first % 8) * 16;
    const uint64_t policy = evict_first_policy();
    Place<R::kTokenStages> tokens(true), fetched(true);
    Place<kWeightStages> weights(true);
    int in_flight = 0;
    const auto hand_over = [&] {
      // Written by ordinary means, read by the tensor cores.
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
      barriers.tokens_full[fetched.slot].arrive();
      fetched.advance();
    };
    for (TileSequence<kTokens> pieces(row_blocks);; pieces.next()) {
      const Work work = pieces.work(all);
      if (work.count <= 0) break;
      Gemm p = all;
      const int first_tile = select(p, pieces.row_block(), kTiles) * kTiles;
      const uint16_t* from[kTokens / 16];
#pragma unroll
      for (int i = 0; i < kTokens / 16; ++i) {
        const int at = work.first + min(first + 16 * i, work.count - 1);
        from[i] = p.x + int64_t{p.x_rows ? p.x_rows[at] : at} * columns + part * 8;
      }
      const int tile = min(lane, kTiles - 1);
      const uint8_t* const weight =
          tile_of<kGateUp>(p, work.slice, first_tile + (tile & ~1), tile % 2);
      int in_chunk = 0, chunk = 0;
#pragma unroll 1
      for (int pair = 0; pair < pairs; ++pair) {
        if (in_chunk == 0 && thread < 32) {
          Barrier& full = barriers.weights_full[weights.slot];
          barriers.weights_empty[weights.slot].wait(weights.phase);
          if (lane == 0) full.expect(R::kWeightBytes);
          __syncwarp();
          if (lane < kTiles)
            bulk_copy(
                shared + R::kWeightsAt + weights.slot * R::kWeightBytes + lane * R::kTileBytes,
                weight + chunk * R::kTileBytes, R::kTileBytes, full, policy);
          weights.advance();
        }
        if (++in_chunk == R::kPairs) in_chunk = 0, ++chunk;
        barriers.tokens_empty[tokens.slot].wait(tokens.phase);
#pragma unroll
        for (int i = 0; i < kTokens / 16; ++i)
          if (16 * i < work.count)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                             to + tokens.slot * R::kTokenBytes + i * 16 * kRowBytes),
                         "l"(from[i] + pair * kPair));
        asm volatile("cp.async.commit_group;");
        tokens.advance();
        if (++in_flight == kInFlight) {
          asm volatile("cp.async.wait_group %0;" ::"n"(kInFlight - 1) : "memory");
          --in_flight;
          hand_over();
        }
      }
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    for (; in_flight; --in_flight) hand_over();
    return;
  }

  Place<R::kTokenStages> tokens(false);
  Place<kWeightStages> weights(false);
  const uint8_t* const own_tiles =
      shared + R::kWeightsAt + (group * 8 + warp % 4 * 2) * R::kTileBytes;
  for (TileSequence<kTokens> pieces(row_blocks);; pieces.next()) {
    const Work work = pieces.work(all);
    if (work.count <= 0) return;
    float sum[1][kTokens / 8][4];
    const auto multiply = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
      int in_chunk = 0;
#pragma unroll 1
      for (int pair = 0; pair < pairs; ++pair) {
        if (in_chunk == 0) barriers.weights_full[weights.slot].wait(weights.phase);
        uint32_t a[16];
        decode<kind>(own_tiles + weights.slot * R::kWeightBytes, in_chunk, a);
        if (++in_chunk == R::kPairs) {
          in_chunk = 0;
          barriers.weights_empty[weights.slot].arrive();
          weights.advance();
        }
        barriers.tokens_full[tokens.slot].wait(tokens.phase);
        const uint64_t at = descriptor(shared_address(shared) + tokens.slot * R::kTokenBytes);
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          multiply_tokens<kWidth>(sum[0], a + 4 * k, at + 2 * k, pair + k > 0);
        commit_products();
        // At once: the compiler does not know that the tensor cores still read `a`, and what is
        // decoded next would get its registers. The other warpgroups' products fill the time.
        wait_for_products();
        if (lane == 0) barriers.tokens_empty[tokens.slot].arrive();
        tokens.advance();
      }
    };
    if (__shfl_sync(0xffffffff, work.count, 0) > 64)
      multiply(std::integral_constant<int, 128>());
    else
      multiply(std::integral_constant<int, 64>());
    Gemm p = all;
    const int first_tile = select(p, pieces.row_block(), kTiles) * kTiles;
    store<kGateUp>(p, work, first_tile + group * 8 + warp % 4 * 2, 0, sum);
  }
#endif
}

template <WeightType kind, bool kGateUp>
void launch_wide(const Gemm& p, CUstream_st* stream) {
  const auto kernel = wide_kernel<kind, kGateUp>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       DeviceArena<kind>::kBytes);
  const int row_blocks = row_blocks_of(p, kTiles);
  const int most = row_blocks * ((p.tokens + kTokens - 1) / kTokens + (p.begin ? p.slices : 0));
  kernel<<<std::min(most, multiprocessors()), kThreads, DeviceArena<kind>::kBytes, stream>>>(
      p, row_blocks);
}

}  // namespace

bool use_wgmma(int tokens, int slices) {
#if defined(MXGPT_SM90A)  // cmake/Cuda.cmake: compiled for sm_90a, without which wide_kernel is
                          // empty
  static const bool is_hopper = [] {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major == 9 && is_supported_here();
  }();
  return is_hopper && (slices > 1 ? tokens > 48 * slices : tokens > 128);
#else
  static_cast<void>(tokens), static_cast<void>(slices);
  return false;
#endif
}

void gemm_wgmma(const Gemm& p, CUstream_st* stream) {
  if (p.up.data)
    launch_wide<WeightType::mxfp4, true>(p, stream);
  else if (p.weight.kind == WeightType::q8_0)
    launch_wide<WeightType::q8_0, false>(p, stream);
  else if (p.weight.kind == WeightType::mxfp4)
    launch_wide<WeightType::mxfp4, false>(p, stream);
  else
    launch_wide<WeightType::bf16, false>(p, stream);
}

}  // namespace mxgpt::cuda::sm90
