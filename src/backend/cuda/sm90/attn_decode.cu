// Decode attention on tensor cores. A warp processes one page of 32 keys of one KV head for the
// eight query heads that share it. Eight of an operand's 16 rows are the rounding errors of the
// other eight, so that queries and weights keep 16 bits of mantissa. Keys and values are loaded
// straight to registers, in an order of dimensions that makes every load 16 bytes wide.
#include <algorithm>

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/launch.cuh"
#include "backend/cuda/sm90/stream.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kPageTokens = 32, kDims = kHeadDim;
constexpr int kPageWarps = 4;

/// Online softmax (Milakov & Gimelshein 2018): the state of one head over some keys.
struct State {
  float largest = -INFINITY, sum = 0;  // Σ exp2(score - largest)
};

/// Merged state of one head, two dimensions per lane. `largest` is the maximum of all states to
/// add.
struct Merged : State {
  float2 out{};

  __device__ void add(const State& s, float2 v) {
    const float factor = exp2f(s.largest - largest);
    sum += s.sum * factor;
    out = {out.x + v.x * factor, out.y + v.y * factor};
  }
  __device__ void finish(const AttentionArgs& p, int row, int head) {
    if (p.sinks) {
      const float sink = p.sinks[head] * 1.44269504f, both = fmaxf(largest, sink);
      const float factor = exp2f(largest - both);
      sum = sum * factor + exp2f(sink - both);
      out = {out.x * factor, out.y * factor};
    }
    const float inverse = 1 / sum;
    const int64_t at =
        (int64_t{row} * p.kv_heads * kGqaGroup + head) * kDims + threadIdx.x % 32 * 2;
    *reinterpret_cast<float2*>(p.out + at) = make_float2(out.x * inverse, out.y * inverse);
  }
};

template <bool kBf16>
__device__ inline Split split(float x, float y) {
  if constexpr (kBf16) return split_bf16(x, y);
  const __half2 hi = __floats2half2_rn(x, y);
  const float2 back = __half22float2(hi);
  const __half2 lo = __floats2half2_rn(x - back.x, y - back.y);
  return {reinterpret_cast<const uint32_t&>(hi), reinterpret_cast<const uint32_t&>(lo)};
}
template <bool kBf16>
__device__ inline void mma(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  if constexpr (kBf16)
    mma_bf16(d, a, b0, b1);
  else
    mma_f16(d, a, b0, b1);
}
__device__ inline uint32_t transpose(uint32_t v) {
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(v));
  return v;
}

/// Lane 4 g + t of a page: of keys 8 i + g, dimensions 16 t … 16 t + 15.
struct Page {
  uint4 k[4][2], v[4][2];

  __device__ void load(const KvPages& kv, int64_t page, int kv_heads, int head) {
    const int lane = threadIdx.x % 32;
    const int64_t at = ((page * kv_heads + head) * kPageTokens + lane / 4) * kDims + lane % 4 * 16;
    const auto* keys = static_cast<const uint16_t*>(kv.keys) + at;
    const auto* values = static_cast<const uint16_t*>(kv.values) + at;
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        k[i][half] = *reinterpret_cast<const uint4*>(keys + i * 8 * kDims + half * 8);
        v[i][half] = *reinterpret_cast<const uint4*>(values + i * 8 * kDims + half * 8);
      }
  }
};

template <bool kBf16>
__global__ void __launch_bounds__(32 * kPageWarps, 4) attend_kernel(AttentionArgs p) {
  __shared__ State states[kPageWarps][kGqaGroup];
  __shared__ float outs[kPageWarps][kGqaGroup][kDims + 4];
  __shared__ bool last;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int row = blockIdx.y, heads = p.kv_heads * kGqaGroup;
  const int position = p.coords.positions[row];
  const int32_t* const table = p.kv.table + p.coords.sequences[row] * p.kv.stride;
  const int oldest = p.window ? max(0, position + 1 - p.window) : 0;
  const int piece_tokens = p.pages_per_split * kPageTokens;
  const int first_piece = oldest / piece_tokens;
  const int pieces = position / piece_tokens + 1 - first_piece;
  bool waited = false;

  for (int work = blockIdx.x; work < pieces * p.kv_heads; work += gridDim.x) {
    const int kv_head = work % p.kv_heads, piece = work / p.kv_heads;
    const int begin = (first_piece + piece) * p.pages_per_split;
    const int first_page = max(begin, oldest / kPageTokens);
    const int end_page = min(begin + p.pages_per_split, position / kPageTokens + 1);

    // Pages at fixed places in the piece go to the same warp, whatever the window hides.
    int page = begin + warp;
    while (page < first_page) page += kPageWarps;
    Page kv;
    // Being written is the page of the row itself, and of those before it of its sequence that are
    // in the step, which are fewer than there are rows.
    const bool early = page < min(end_page, max(0, position - p.step_rows + 1) / kPageTokens);
    if (early) kv.load(p.kv, table[page], p.kv_heads, kv_head);
    if (!waited) wait_for_previous_kernels();
    waited = true;

    State state;
    float out[8][4] = {};  // dimensions 16 t + 2 c, + 1: of [c][0, 1] hi's, [c][2, 3] lo's share
    uint32_t q[4][4];
    if (page < end_page) {
      const float* from = p.q + (int64_t{row} * heads + kv_head * kGqaGroup + g) * kDims + 16 * t;
      for (int s = 0; s < 4; ++s) {
        const float4 v = reinterpret_cast<const float4*>(from)[s];
        const Split a = split<kBf16>(v.x, v.y), b = split<kBf16>(v.z, v.w);
        q[s][0] = a.hi, q[s][1] = a.lo, q[s][2] = b.hi, q[s][3] = b.lo;
      }
    }
    bool loaded = early;
    for (; page < end_page; page += kPageWarps) {
      if (!loaded) kv.load(p.kv, table[page], p.kv_heads, kv_head);
      loaded = false;
      float score[4][2], largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float d[4] = {};
        const uint32_t* k = reinterpret_cast<const uint32_t*>(kv.k[i]);
#pragma unroll
        for (int s = 0; s < 4; ++s) mma<kBf16>(d, q[s], k[2 * s], k[2 * s + 1]);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int token = page * kPageTokens + 8 * i + 2 * t + j;
          score[i][j] = token >= oldest && token <= position
                            ? (d[j] + d[2 + j]) * (p.scale * 1.44269504f)
                            : -INFINITY;
          largest = fmaxf(largest, score[i][j]);
        }
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
      const float both = fmaxf(state.largest, largest);
      const float shrink = exp2f(state.largest - both);  // 0 at first
      state.largest = both;
      state.sum *= shrink;
#pragma unroll
      for (int c = 0; c < 8; ++c)
        for (int j = 0; j < 4; ++j) out[c][j] *= shrink;
      float sum = 0;
      uint32_t weights[4][2];  // [i]: hi, lo of keys 8 i + 2 t, + 1
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float a = exp2f(score[i][0] - both), b = exp2f(score[i][1] - both);
        sum += a + b;
        const Split w = split<kBf16>(a, b);
        weights[i][0] = w.hi, weights[i][1] = w.lo;
      }
      sum += __shfl_xor_sync(0xffffffff, sum, 1);
      sum += __shfl_xor_sync(0xffffffff, sum, 2);
      state.sum += sum;
#pragma unroll
      for (int c = 0; c < 8; ++c)
#pragma unroll
        for (int u = 0; u < 2; ++u) {
          const uint32_t a[4] = {weights[2 * u][0], weights[2 * u][1], weights[2 * u + 1][0],
                                 weights[2 * u + 1][1]};
          const uint32_t b0 = transpose(reinterpret_cast<const uint32_t*>(kv.v[2 * u])[c]);
          const uint32_t b1 = transpose(reinterpret_cast<const uint32_t*>(kv.v[2 * u + 1])[c]);
          mma<kBf16>(out[c], a, b0, b1);
        }
    }
    // Not before: the next kernel's weights would stand in the way of the keys.
    let_next_kernel_start();
    if (t == 0) states[warp][g] = state;
#pragma unroll
    for (int c = 0; c < 8; ++c)
      *reinterpret_cast<float2*>(&outs[warp][g][16 * t + 2 * c]) =
          make_float2(out[c][0] + out[c][2], out[c][1] + out[c][3]);
    __syncthreads();

    // Warps' pages to the piece: a warp merges every kPageWarps-th head, a lane two dimensions.
    for (int h = warp; h < kGqaGroup; h += kPageWarps) {
      Merged merged;
      for (int w = 0; w < kPageWarps; ++w)
        merged.largest = fmaxf(merged.largest, states[w][h].largest);
#pragma unroll 1
      for (int w = 0; w < kPageWarps; ++w)
        if (states[w][h].sum != 0)  // else it had no pages
          merged.add(states[w][h], *reinterpret_cast<const float2*>(&outs[w][h][2 * lane]));
      const int head = kv_head * kGqaGroup + h;
      if (pieces == 1) {
        merged.finish(p, row, head);
      } else {
        float* const own =
            p.scratch + ((int64_t{row} * heads + head) * p.max_splits + piece) * (kDims + 2);
        *reinterpret_cast<float2*>(own + 2 * lane) = merged.out;
        if (lane == 0)
          *reinterpret_cast<float2*>(own + kDims) = make_float2(merged.largest, merged.sum);
      }
    }
    if (pieces > 1) {
      __threadfence();
      __syncthreads();
      int32_t* const split_counters = p.split_counters + row * p.kv_heads + kv_head;
      if (threadIdx.x == 0) last = atomicAdd(split_counters, 1) == pieces - 1;
      __syncthreads();
      if (last) {
        __threadfence();
        for (int h = warp; h < kGqaGroup; h += kPageWarps) {
          const int head = kv_head * kGqaGroup + h;
          const float* const all =
              p.scratch + (int64_t{row} * heads + head) * p.max_splits * (kDims + 2);
          Merged merged;
          for (int i = lane; i < pieces; i += 32)
            merged.largest = fmaxf(merged.largest, __ldcg(all + i * (kDims + 2) + kDims));
          for (int step = 16; step; step /= 2)
            merged.largest =
                fmaxf(merged.largest, __shfl_xor_sync(0xffffffff, merged.largest, step));
#pragma unroll 4
          for (int i = 0; i < pieces; ++i) {
            const float* from = all + i * (kDims + 2);
            const float2 s = __ldcg(reinterpret_cast<const float2*>(from + kDims));
            merged.add({s.x, s.y}, __ldcg(reinterpret_cast<const float2*>(from + 2 * lane)));
          }
          merged.finish(p, row, head);
        }
        if (threadIdx.x == 0) *split_counters = 0;
      }
    }
    __syncthreads();
  }
  // PDL invariant: a dependent kernel may assume that everything before this kernel has completed.
  if (!waited) wait_for_previous_kernels();
}

}  // namespace

void attn_decode(const AttentionArgs& p, CUstream_st* stream) {
  // Short contexts: few blocks, which find room beside those of qkv and start early.
  const int waves = p.max_splits <= 16 ? 1 : 4;
  const int blocks = std::max(p.kv_heads, waves * multiprocessors() / p.rows);
  launch(p.kv.bf16 ? attend_kernel<true> : attend_kernel<false>, p,
         dim3(std::min(blocks, p.max_splits * p.kv_heads), p.rows), 32 * kPageWarps, 0, stream);
}

}  // namespace mxgpt::cuda::sm90
