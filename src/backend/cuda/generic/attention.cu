// Attention with mergeable states (Milakov & Gimelshein 2018) over splits of 256 positions. Splits
// start at multiples of 256 and are merged in order, whether one block processes all of them or
// each has its own block, so a row's result does not depend on the batch.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>

#include "backend/cuda/generic/block_reduce.cuh"
#include "backend/cuda/generic/kernels.h"
#include "quant/q8_0/q8_0.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 8;  ///< query heads per block, which share loads of keys and values
static_assert(kThreads == kKvSplitTokens, "a thread has a position");
static_assert(kThreads / kWarp == kHeads, "a warp has the softmax of a head");

/// Element d of a key or value.
template <quant::Format kFormat>
__device__ __forceinline__ float load(const std::byte* head, int d) {
  if constexpr (kFormat == quant::Format::f32) {
    return reinterpret_cast<const float*>(head)[d];
  } else if constexpr (kFormat == quant::Format::f16) {
    return __half2float(reinterpret_cast<const __half*>(head)[d]);
  } else if constexpr (kFormat == quant::Format::bf16) {
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(head)[d]);
  } else {
    const auto& block = reinterpret_cast<const quant::Q8_0::Block*>(head)[d / 32];
    return quant::f16_to_f32(block.scale) * static_cast<float>(block.q[d % 32]);
  }
}

/// Elements d … d + 7; head_dim must be a multiple of 8.
template <quant::Format kFormat>
__device__ __forceinline__ void load_eight(const std::byte* head, int d, float (&out)[8]) {
  if constexpr (kFormat == quant::Format::f16 || kFormat == quant::Format::bf16) {
    const uint4 bits = *reinterpret_cast<const uint4*>(head + d * 2);
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kFormat == quant::Format::f16) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
      } else {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = load<kFormat>(head, d + i);
  }
}

struct Params {
  PagedAttention p;
  const float* sinks;
  int group, chunks;  ///< query heads per KV head, and blocks that share them
  int64_t head_bytes;
  int width;   ///< head_dim rounded up to a power of two, at most kThreads
  int pieces;  ///< splits per row with a block each; 0: one block processes all
};

/// Attention states of kHeads heads, in shared memory.
struct State {
  float *most, *total;  ///< [kHeads]
  float* out;           ///< [kHeads][head_dim]
};

/// State of one split, computed by the whole block.
template <quant::Format kFormat>
__device__ void attend_split(const Params& h, const std::byte* keys, const std::byte* values,
                             const int32_t* pages, int64_t page_bytes, int piece, int first,
                             int last, const float* q, float* weights, float* partial,
                             const State& state) {
  const int d = h.p.op.head_dim;
  const int base = piece * kKvSplitTokens;
  const int from = max(first, base), to = min(last, base + kKvSplitTokens - 1);
  const int position = base + static_cast<int>(threadIdx.x);
  const auto offset = [&](int at) {
    return pages[at / backend::kPageTokens] * page_bytes + at % backend::kPageTokens * h.head_bytes;
  };

  float scores[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) scores[i] = -INFINITY;
  if (position >= from && position <= to) {
    const std::byte* key = keys + offset(position);
#pragma unroll
    for (int i = 0; i < kHeads; ++i) scores[i] = 0;
    if (d % 8 == 0) {
      for (int at = 0; at < d; at += 8) {
        float k[8];
        load_eight<kFormat>(key, at, k);
#pragma unroll
        for (int i = 0; i < kHeads; ++i) {
#pragma unroll
          for (int e = 0; e < 8; ++e) scores[i] = fmaf(q[i * d + at + e], k[e], scores[i]);
        }
      }
    } else {
      for (int at = 0; at < d; ++at) {
        const float k = load<kFormat>(key, at);
#pragma unroll
        for (int i = 0; i < kHeads; ++i) scores[i] = fmaf(q[i * d + at], k, scores[i]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i) weights[i * kKvSplitTokens + threadIdx.x] = scores[i];
  __syncthreads();

  {
    const int head = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    float* w = weights + head * kKvSplitTokens;
    float most = -INFINITY;
    for (int i = lane; i < kKvSplitTokens; i += kWarp) most = fmaxf(most, w[i]);
    most = warp_max(most);
    float total = 0;
    for (int i = lane; i < kKvSplitTokens; i += kWarp) total += w[i] = expf(w[i] - most);
    total = warp_sum(total);
    if (lane == 0) {
      state.most[head] = most;
      state.total[head] = total;
    }
  }
  __syncthreads();

  // Adjacent threads have adjacent elements; the remaining threads share the positions.
  const int lanes = kThreads / h.width, lane = threadIdx.x / h.width;
  for (int at = threadIdx.x % h.width; at < d; at += h.width) {
    float sums[kHeads] = {};
    const int start = from + ((lane - from) % lanes + lanes) % lanes;
    for (int pos = start; pos <= to; pos += lanes) {
      const float value = load<kFormat>(values + offset(pos), at);
#pragma unroll
      for (int i = 0; i < kHeads; ++i)
        sums[i] = fmaf(weights[i * kKvSplitTokens + pos - base], value, sums[i]);
    }
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
      // With one lane, elements go straight to the state: there may be more of them than threads.
      if (lanes == 1)
        state.out[i * d + at] = sums[i];
      else
        partial[(lane * kHeads + i) * h.width + at] = sums[i];
    }
  }
  __syncthreads();
  if (lanes > 1) {
    for (int i = threadIdx.x; i < kHeads * d; i += kThreads) {
      float sum = 0;
      for (int l = 0; l < lanes; ++l) sum += partial[(l * kHeads + i / d) * h.width + i % d];
      state.out[i] = sum;
    }
    __syncthreads();
  }
}

struct MergeScales {
  float most, old_scale, new_scale;
};

/// Initial maximum: the sink, which has a weight but no value.
__device__ __forceinline__ float initial_max(const float* sinks, int head) {
  return sinks ? sinks[head] : -INFINITY;
}

__device__ __forceinline__ MergeScales merge(float most, float piece_most) {
  const float larger = fmaxf(most, piece_most);
  return {larger, expf(most - larger), expf(piece_most - larger)};
}

__device__ __forceinline__ float merged(const MergeScales& m, float old_sum, float piece_sum) {
  return fmaf(old_sum, m.old_scale, __fmul_rn(piece_sum, m.new_scale));
}

template <quant::Format kFormat>
__global__ void __launch_bounds__(kThreads) attend_kernel(const Params h) {
  extern __shared__ float shared[];
  const backend::Attention& op = h.p.op;
  const int d = op.head_dim, row = blockIdx.y;
  const int kv_head = blockIdx.x / h.chunks, chunk = blockIdx.x % h.chunks;
  const int head0 = kv_head * h.group + chunk * kHeads;
  const int heads = min(kHeads, h.group - chunk * kHeads);
  const int last = h.p.positions[row];
  const int first = op.window ? max(0, last - static_cast<int>(op.window) + 1) : 0;
  const int first_piece = first / kKvSplitTokens, last_piece = last / kKvSplitTokens;

  float* q = shared;                                   // [kHeads][d]
  float* weights = q + kHeads * d;                     // [kHeads][kKvSplitTokens]
  float* partial = weights + kHeads * kKvSplitTokens;  // [lanes][kHeads][width]
  float* of_piece = partial + kHeads * kThreads;       // [kHeads][d]
  float* all = of_piece + kHeads * d;                  // [kHeads][d]
  __shared__ float most[kHeads], total[kHeads], all_most[kHeads], all_total[kHeads];
  const State state{most, total, of_piece};

  if (h.pieces && first_piece + static_cast<int>(blockIdx.z) > last_piece) return;
  for (int i = threadIdx.x; i < kHeads * d; i += kThreads) {
    const int64_t at = (static_cast<int64_t>(row) * op.heads + head0) * d + i;
    q[i] = i < heads * d ? op.q[at] * op.scale : 0.0f;
    all[i] = 0;
  }
  if (threadIdx.x < kHeads) {
    const bool has = static_cast<int>(threadIdx.x) < heads;
    all_most[threadIdx.x] = has ? initial_max(h.sinks, head0 + threadIdx.x) : 0;
    all_total[threadIdx.x] = h.sinks ? 1.0f : 0.0f;
  }
  __syncthreads();

  const int64_t kv_head_bytes = backend::kPageTokens * h.head_bytes;
  const int64_t page_bytes = op.kv_heads * kv_head_bytes;
  const std::byte* keys = op.kv.keys + kv_head * kv_head_bytes;
  const std::byte* values = op.kv.values + kv_head * kv_head_bytes;
  const int32_t* pages = h.p.table + h.p.slots[row] * h.p.stride;

  if (h.pieces) {
    const int piece = first_piece + blockIdx.z;
    attend_split<kFormat>(h, keys, values, pages, page_bytes, piece, first, last, q, weights,
                          partial, state);
    const auto part = [&](int head) {
      return (static_cast<int64_t>(row) * op.heads + head0 + head) * h.pieces + blockIdx.z;
    };
    if (static_cast<int>(threadIdx.x) < heads) {
      h.p.splits.max_score[part(threadIdx.x)] = most[threadIdx.x];
      h.p.splits.sum_exp[part(threadIdx.x)] = total[threadIdx.x];
    }
    for (int i = threadIdx.x; i < heads * d; i += kThreads)
      h.p.splits.out[part(i / d) * d + i % d] = of_piece[i];
    return;
  }
  for (int piece = first_piece; piece <= last_piece; ++piece) {
    attend_split<kFormat>(h, keys, values, pages, page_bytes, piece, first, last, q, weights,
                          partial, state);
    for (int i = threadIdx.x; i < kHeads * d; i += kThreads)
      all[i] = merged(merge(all_most[i / d], most[i / d]), all[i], of_piece[i]);
    __syncthreads();
    if (threadIdx.x < kHeads) {
      const MergeScales m = merge(all_most[threadIdx.x], most[threadIdx.x]);
      all_total[threadIdx.x] = merged(m, all_total[threadIdx.x], total[threadIdx.x]);
      all_most[threadIdx.x] = m.most;
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < heads * d; i += kThreads)
    op.out[(static_cast<int64_t>(row) * op.heads + head0) * d + i] = all[i] / all_total[i / d];
}

__global__ void merge_kernel(const Params h) {
  const backend::Attention& op = h.p.op;
  const int head = blockIdx.x, row = blockIdx.y, d = op.head_dim;
  const int last = h.p.positions[row];
  const int first = op.window ? max(0, last - static_cast<int>(op.window) + 1) : 0;
  const int pieces = last / kKvSplitTokens - first / kKvSplitTokens + 1;
  const int64_t part = (static_cast<int64_t>(row) * op.heads + head) * h.pieces;
  for (int i = threadIdx.x; i < d; i += blockDim.x) {
    float most = initial_max(h.sinks, head), total = h.sinks ? 1.0f : 0.0f, out = 0;
    for (int piece = 0; piece < pieces; ++piece) {
      const MergeScales m = merge(most, h.p.splits.max_score[part + piece]);
      out = merged(m, out, h.p.splits.out[(part + piece) * d + i]);
      total = merged(m, total, h.p.splits.sum_exp[part + piece]);
      most = m.most;
    }
    op.out[(static_cast<int64_t>(row) * op.heads + head) * d + i] = out / total;
  }
}

template <quant::Format kFormat>
void launch(const Params& h, int64_t pieces, CudaStream stream) {
  const backend::Attention& op = h.p.op;
  const int d = op.head_dim;
  const size_t bytes = sizeof(float) * kHeads * (3 * d + kKvSplitTokens + kThreads);
  static const bool raised = [] {
    cudaFuncSetAttribute(
        attend_kernel<kFormat>, cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(sizeof(float)) * kHeads * (3 * kMaxHeadDim + kKvSplitTokens + kThreads));
    return true;
  }();
  static_cast<void>(raised);
  const dim3 grid(op.kv_heads * h.chunks, h.p.rows, h.pieces ? static_cast<unsigned>(pieces) : 1);
  attend_kernel<kFormat><<<grid, kThreads, bytes, stream>>>(h);
  if (h.pieces) {
    const dim3 heads(op.heads, h.p.rows);
    merge_kernel<<<heads, std::min(d, 256), 0, stream>>>(h);
  }
}

}  // namespace

void paged_attention(const PagedAttention& p, int64_t last, CudaStream stream) {
  const backend::Attention& op = p.op;
  Params h{.p = p, .sinks = op.sinks ? op.sinks.f32() : nullptr};
  h.group = op.heads / op.kv_heads;
  h.chunks = (h.group + kHeads - 1) / kHeads;
  h.head_bytes = quant::traits(op.kv.format).row_bytes(op.head_dim);
  h.width = 1;
  while (h.width < op.head_dim && h.width < kThreads) h.width *= 2;
  // A window touches at most one split more than it fills.
  int64_t pieces = last / kKvSplitTokens + 1;
  if (op.window) {
    pieces = std::min(pieces, (op.window + kKvSplitTokens - 2) / kKvSplitTokens + 1);
  }
  // With many rows there are enough blocks without splitting rows.
  constexpr int64_t kEnoughBlocks = 512;
  const int64_t blocks = int64_t{p.rows} * op.kv_heads * h.chunks;
  const bool cut = pieces > 1 && blocks < kEnoughBlocks &&
                   int64_t{p.rows} * op.heads * pieces <= p.splits.capacity;
  h.pieces = cut ? static_cast<int>(pieces) : 0;
  switch (op.kv.format) {
    case quant::Format::f32:
      return launch<quant::Format::f32>(h, pieces, stream);
    case quant::Format::f16:
      return launch<quant::Format::f16>(h, pieces, stream);
    case quant::Format::bf16:
      return launch<quant::Format::bf16>(h, pieces, stream);
    default:
      return launch<quant::Format::q8_0>(h, pieces, stream);
  }
}

}  // namespace mxgpt::cuda
