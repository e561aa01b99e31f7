// Prefill attention (after FlashAttention 2, Dao 2023). A block processes 16 adjacent rows and one
// KV head; each warp, one of the eight query heads that share it. Keys and values pass through
// shared memory in pairs of pages that start at even pages, so that a row's order of sums does not
// depend on the other rows.
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/launch.cuh"
#include "backend/cuda/sm90/ptx.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kRows = 16, kWarps = 8, kThreads = 32 * kWarps, kStages = 3;
constexpr int kPage = 32, kKeys = 2 * kPage, kDims = 64, kRowBytes = 2 * kDims;
constexpr int kStageBytes = 2 * kKeys * kRowBytes;  // keys, then values
constexpr float kLog2E = 1.44269504f;

template <bool kBf16>
__device__ inline uint32_t pair_of(float x, float y) {
  if constexpr (kBf16) return bits(__floats2bfloat162_rn(x, y));
  const __half2 v = __floats2half2_rn(x, y);
  return reinterpret_cast<const uint32_t&>(v);
}
template <bool kBf16>
__device__ inline void mma(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  if constexpr (kBf16)
    mma_bf16(d, a, b0, b1);
  else
    mma_f16(d, a, b0, b1);
}

/// Piece `part` of 16 bytes of row `row`: exchanged among rows so that eight rows' same piece lie
/// in different banks.
__device__ inline int place(int row, int part) {
  return row * kRowBytes + (part ^ row % 8) * 16;
}
__device__ inline void load_matrices(uint32_t out[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}
__device__ inline void load_transposed(uint32_t out[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

template <bool kBf16>
__global__ void __launch_bounds__(kThreads, 2) attend_rows_kernel(AttentionArgs p) {
  __shared__ __align__(128) uint8_t stages[kStages * kStageBytes];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  // Later rows see more keys: they come first.
  const int first_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const int last_row = min(first_row + kRows, p.rows) - 1;
  const int kv_head = blockIdx.y, heads = p.kv_heads * kWarps, head = kv_head * kWarps + warp;
  const uint32_t base = shared_address(stages);

  uint32_t q[4][4];
  int position[2], sequence[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = min(first_row + g + 8 * half, last_row);
    position[half] = p.coords.positions[row];
    sequence[half] = p.coords.sequences[row];
    const float* from = p.q + (int64_t{row} * heads + head) * kDims + 2 * t;
#pragma unroll
    for (int s = 0; s < 4; ++s)
      for (int upper = 0; upper < 2; ++upper) {
        const float2 v = *reinterpret_cast<const float2*>(from + 16 * s + 8 * upper);
        q[s][2 * upper + half] = pair_of<kBf16>(v.x, v.y);
      }
  }
  float out[8][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {};

  // Rows of one sequence at a time; most often there is but one.
  for (int begin = first_row; begin <= last_row;) {
    const int now = p.coords.sequences[begin];
    int end = begin;
    while (end < last_row && p.coords.sequences[end + 1] == now) ++end;
    const int oldest = p.window ? max(0, p.coords.positions[begin] + 1 - p.window) : 0;
    const int last_page = p.coords.positions[end] / kPage;
    const int32_t* const table = p.kv.table + now * p.kv.stride;
    const int first_pair = oldest / kKeys, pairs = last_page / 2 + 1 - first_pair;
    begin = end + 1;

    const auto fetch = [&](int i) {
      if (i < pairs) {
        // 64 keys and 64 values of 8 pieces each. What lies outside what any row sees is masked:
        // any page will do.
        for (int piece = threadIdx.x; piece < 2 * kKeys * 8; piece += kThreads) {
          const int part = piece % 8, key = piece / 8 % kKeys, value = piece / (8 * kKeys);
          const int wanted = 2 * (first_pair + i) + key / kPage;
          const int64_t page = table[max(min(wanted, last_page), oldest / kPage)];
          const uint16_t* from = static_cast<const uint16_t*>(value ? p.kv.values : p.kv.keys) +
                                 ((page * p.kv_heads + kv_head) * kPage + key % kPage) * kDims +
                                 part * 8;
          const uint32_t to = base + i % kStages * kStageBytes + place(value * kKeys + key, part);
          asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
        }
      }
      asm volatile("cp.async.commit_group;");
    };
    __syncthreads();  // the stages' last readers
    for (int i = 0; i < kStages - 1; ++i) fetch(i);
#pragma unroll 1
    for (int i = 0; i < pairs; ++i) {
      asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2));
      __syncthreads();
      fetch(i + kStages - 1);
      const uint32_t keys = base + i % kStages * kStageBytes, values = keys + kKeys * kRowBytes;
      const int first_key = (first_pair + i) * kKeys;

      float score[8][4];
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        uint32_t k[8];
        load_matrices(k, keys + place(8 * n + lane % 8, lane / 8));
        load_matrices(k + 4, keys + place(8 * n + lane % 8, 4 + lane / 8));
        for (int j = 0; j < 4; ++j) score[n][j] = 0;
#pragma unroll
        for (int s = 0; s < 4; ++s) mma<kBf16>(score[n], q[s], k[2 * s], k[2 * s + 1]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int newest = sequence[half] == now ? position[half] : -1;
        const int first = p.window ? newest + 1 - p.window : 0;
        float most = largest[half];
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int key = first_key + 8 * n + 2 * t + j;
            float& s = score[n][2 * half + j];
            s = key <= newest && key >= first ? s * (p.scale * kLog2E) : -INFINITY;
            most = fmaxf(most, s);
          }
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
        // Nothing seen yet: any finite number keeps the differences from being NaN.
        const float subtract = most == -INFINITY ? 0 : most;
        const float shrink = exp2f(largest[half] - subtract);
        largest[half] = most;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            float& s = score[n][2 * half + j];
            s = exp2f(s - subtract);
            sum += s;
          }
        total[half] = total[half] * shrink + sum;  // of this lane's keys
#pragma unroll
        for (int c = 0; c < 8; ++c) out[c][2 * half] *= shrink, out[c][2 * half + 1] *= shrink;
      }
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        const uint32_t a[4] = {pair_of<kBf16>(score[2 * u][0], score[2 * u][1]),
                               pair_of<kBf16>(score[2 * u][2], score[2 * u][3]),
                               pair_of<kBf16>(score[2 * u + 1][0], score[2 * u + 1][1]),
                               pair_of<kBf16>(score[2 * u + 1][2], score[2 * u + 1][3])};
#pragma unroll
        for (int c = 0; c < 8; c += 2) {
          uint32_t v[4];
          load_transposed(v, values + place(16 * u + lane % 16, c + lane / 16));
          mma<kBf16>(out[c], a, v[0], v[1]);
          mma<kBf16>(out[c + 1], a, v[2], v[3]);
        }
      }
    }
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + g + 8 * half;
    float sum = total[half];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    float factor = 1;
    if (p.sinks) {
      const float sink = p.sinks[head] * kLog2E, both = fmaxf(largest[half], sink);
      factor = exp2f(largest[half] - both);
      sum = sum * factor + exp2f(sink - both);
    }
    if (row > last_row) continue;
    const float scale = factor / sum;
    float* const to = p.out + (int64_t{row} * heads + head) * kDims + 2 * t;
#pragma unroll
    for (int c = 0; c < 8; ++c)
      *reinterpret_cast<float2*>(to + 8 * c) =
          make_float2(out[c][2 * half] * scale, out[c][2 * half + 1] * scale);
  }
}

}  // namespace

void attn_prefill(const AttentionArgs& p, CUstream_st* stream) {
  const dim3 grid((p.rows + kRows - 1) / kRows, p.kv_heads);
  (p.kv.bf16 ? attend_rows_kernel<true>
             : attend_rows_kernel<false>)<<<grid, kThreads, 0, stream>>>(p);
}

}  // namespace mxgpt::cuda::sm90
