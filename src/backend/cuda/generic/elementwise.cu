// Norms, rotations and activations.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/generic/block_reduce.cuh"
#include "backend/cuda/generic/kernels.h"
#include "quant/q8_0/q8_0.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadThreads = 128;

unsigned blocks_for(int64_t n) {
  return static_cast<unsigned>((n + kThreads - 1) / kThreads);
}

/// A norm's parameters, as passed to kernels.
struct NormWeights {
  const float *weight, *bias;
  float eps;
  bool layer;
};

NormWeights weights_of(const backend::Norm& norm) {
  if (!norm) return {nullptr, nullptr, 0, false};
  return {norm.weight.f32(), norm.bias ? norm.bias.f32() : nullptr, norm.eps,
          norm.kind == backend::NormKind::layer};
}

struct Moments {
  float mean, scale;
};

template <int kSize>
__device__ Moments moments(const NormWeights& p, const float* x, int n) {
  float mean = 0;
  if (p.layer) {
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += kSize) sum += x[i];
    mean = block_sum<kSize>(sum) / static_cast<float>(n);
  }
  float squares = 0;
  for (int i = threadIdx.x; i < n; i += kSize) {
    const float v = x[i] - mean;
    squares = fmaf(v, v, squares);
  }
  squares = block_sum<kSize>(squares);
  return {mean, 1 / sqrtf(squares / static_cast<float>(n) + p.eps)};
}

__device__ __forceinline__ float normed(const NormWeights& p, const Moments& m, float x, int i) {
  const float v = (x - m.mean) * m.scale * p.weight[i];
  return p.bias ? v + p.bias[i] : v;
}

__global__ void __launch_bounds__(kThreads)
    norm_kernel(NormWeights p, const float* x, const int32_t* ids, int n, float* out, bool add) {
  const int64_t from = ids ? ids[blockIdx.x] : blockIdx.x;
  x += from * n;
  out += static_cast<int64_t>(blockIdx.x) * n;
  const Moments m = moments<kThreads>(p, x, n);
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const float v = normed(p, m, x[i], i);
    out[i] = add ? out[i] + v : v;
  }
}

__global__ void rope_cos_sin_kernel(RopeCosSinParams p) {
  const int row = blockIdx.x;
  const auto position = static_cast<float>(p.positions[row]);
  for (int i = threadIdx.x; i < p.half; i += blockDim.x) {
    // Round the product to f32 first, as the reference does: it matters at large positions.
    const float angle = __fmul_rn(position, p.inv_freq[i]);
    const int64_t at = static_cast<int64_t>(row) * p.half + i;
    p.cos[at] = cosf(angle) * p.magnitude;
    p.sin[at] = sinf(angle) * p.magnitude;
  }
}

__device__ void store_head(quant::Format format, const float* head, int n, std::byte* to) {
  if (format == quant::Format::q8_0) {
    // Like the CPU's Q8_0 quantizer; one warp per block of 32.
    auto* blocks = reinterpret_cast<quant::Q8_0::Block*>(to);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      const float most = warp_max(fabsf(head[i]));
      const bool bad = __any_sync(~0u, !(fabsf(head[i]) <= 65504.0f));
      const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
      quant::Q8_0::Block& block = blocks[i / 32];
      if (i % 32 == 0)
        block.scale = bad ? uint16_t{0x7e00} : __half_as_ushort(__float2half_rn(scale));
      block.q[i % 32] = static_cast<int8_t>(bad ? 0 : static_cast<int>(roundf(head[i] * inverse)));
    }
    return;
  }
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    if (format == quant::Format::f32)
      reinterpret_cast<float*>(to)[i] = head[i];
    else if (format == quant::Format::f16)
      reinterpret_cast<__half*>(to)[i] = __float2half_rn(head[i]);
    else
      reinterpret_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16_rn(head[i]);
  }
}

struct HeadParams {
  QkNormRopeStoreKv p;
  NormWeights q_norm, k_norm;
  int64_t head_bytes;
};

__global__ void __launch_bounds__(kHeadThreads) qk_norm_rope_store_kv_kernel(const HeadParams h) {
  const QkNormRopeStoreKv& p = h.p;
  __shared__ float head[kMaxHeadDim];
  const int row = blockIdx.y, d = p.head_dim;
  int index = blockIdx.x;  // q's heads, then k's, then v's
  const bool is_q = index < p.heads;
  if (!is_q) index -= p.heads;
  const bool is_v = !is_q && index >= p.kv_heads;
  if (is_v) index -= p.kv_heads;
  float* x = is_q ? p.q + (static_cast<int64_t>(row) * p.heads + index) * d
                  : (is_v ? p.v : p.k) + (static_cast<int64_t>(row) * p.kv_heads + index) * d;
  const NormWeights& norm = is_q ? h.q_norm : h.k_norm;
  if (!is_v && norm.weight) {
    const Moments m = moments<kHeadThreads>(norm, x, d);
    for (int i = threadIdx.x; i < d; i += kHeadThreads) head[i] = normed(norm, m, x[i], i);
  } else {
    for (int i = threadIdx.x; i < d; i += kHeadThreads) head[i] = x[i];
  }
  __syncthreads();
  if (!is_v && p.cos) {
    const int half = d / 2;
    const int step = p.rope_style == backend::RopeStyle::neox ? 1 : 2;
    const int apart = p.rope_style == backend::RopeStyle::neox ? half : 1;
    for (int i = threadIdx.x; i < half; i += kHeadThreads) {
      const float a = head[i * step], b = head[i * step + apart];
      const float cos = p.cos[static_cast<int64_t>(row) * half + i];
      const float sin = p.sin[static_cast<int64_t>(row) * half + i];
      head[i * step] = a * cos - b * sin;
      head[i * step + apart] = b * cos + a * sin;
    }
    __syncthreads();
  }
  if (is_q) {
    for (int i = threadIdx.x; i < d; i += kHeadThreads) x[i] = head[i];
    return;
  }
  const int position = p.positions[row];
  const int64_t page = p.table[p.slots[row] * p.stride + position / backend::kPageTokens];
  const int64_t to =
      ((page * p.kv_heads + index) * backend::kPageTokens + position % backend::kPageTokens) *
      h.head_bytes;
  store_head(p.kv.format, head, d, (is_v ? p.kv.values : p.kv.keys) + to);
}

/// The same for a common case: heads of 64 dimensions, NeoX rotation, no norm, 16-bit cache. One
/// warp per head; a lane has dimensions i and i + 32.
__global__ void __launch_bounds__(kThreads) rope_store_kv_64_kernel(const QkNormRopeStoreKv p) {
  constexpr int kHalf = 32;
  const int per_row = p.heads + 2 * p.kv_heads, i = threadIdx.x % kHalf;
  const int64_t head = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kHalf;
  const int row = static_cast<int>(head / per_row);
  if (row >= p.rows) return;
  int index = static_cast<int>(head % per_row);  // q's heads, then k's, then v's
  const bool is_q = index < p.heads;
  if (!is_q) index -= p.heads;
  const bool is_v = !is_q && index >= p.kv_heads;
  if (is_v) index -= p.kv_heads;
  float* const x =
      (is_q ? p.q + static_cast<int64_t>(row) * p.heads * 2 * kHalf
            : (is_v ? p.v : p.k) + static_cast<int64_t>(row) * p.kv_heads * 2 * kHalf) +
      index * 2 * kHalf;
  float a = x[i], b = x[i + kHalf];
  if (!is_v) {
    const float cos = p.cos[static_cast<int64_t>(row) * kHalf + i];
    const float sin = p.sin[static_cast<int64_t>(row) * kHalf + i];
    const float first = a * cos - b * sin;
    b = b * cos + a * sin;
    a = first;
  }
  if (is_q) {
    x[i] = a, x[i + kHalf] = b;
    return;
  }
  const int position = p.positions[row];
  const int64_t page = p.table[p.slots[row] * p.stride + position / backend::kPageTokens];
  const int64_t to =
      ((page * p.kv_heads + index) * backend::kPageTokens + position % backend::kPageTokens) * 2 *
          kHalf +
      i;
  std::byte* const cache = is_v ? p.kv.values : p.kv.keys;
  if (p.kv.format == quant::Format::f16) {
    auto* const at = reinterpret_cast<__half*>(cache) + to;
    at[0] = __float2half_rn(a), at[kHalf] = __float2half_rn(b);
  } else {
    auto* const at = reinterpret_cast<__nv_bfloat16*>(cache) + to;
    at[0] = __float2bfloat16_rn(a), at[kHalf] = __float2bfloat16_rn(b);
  }
}

__device__ __forceinline__ float sigmoid(float x) {
  return 1 / (1 + expf(-x));
}

__global__ void activate_kernel(backend::Activation p, float* gate, const float* up, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float g = gate[i];
  const float u = up ? up[i] : 1;
  switch (p.kind) {
    case backend::ActivationKind::clamped_swiglu: {
      // Unlike fminf, this propagates NaN.
      const float low = g > p.limit ? p.limit : g;
      const float mid = u > p.limit ? p.limit : u < -p.limit ? -p.limit : u;
      gate[i] = (mid + 1) * low / (1 + expf(-p.alpha * low));
      break;
    }
    case backend::ActivationKind::silu:
      gate[i] = g * sigmoid(g) * u;
      break;
    case backend::ActivationKind::gelu:
      gate[i] = 0.5f * g * (1 + erff(g * 0.70710678f)) * u;
      break;
    case backend::ActivationKind::gelu_tanh:
      // (1 + tanh v) / 2 = sigmoid(2 v)
      gate[i] = g * sigmoid(1.59576912f * (g + 0.044715f * g * g * g)) * u;
      break;
  }
}

}  // namespace

void norm_rows(const NormRows& p, CudaStream stream) {
  const auto n = static_cast<int>(p.norm.weight.k);
  norm_kernel<<<p.rows, kThreads, 0, stream>>>(weights_of(p.norm), p.x, p.row_indices, n, p.out,
                                               p.add);
}

void compute_rope_cos_sin(const RopeCosSinParams& p, CudaStream stream) {
  rope_cos_sin_kernel<<<p.rows, 64, 0, stream>>>(p);
}

void qk_norm_rope_store_kv(const QkNormRopeStoreKv& p, CudaStream stream) {
  const bool narrow = p.kv.format == quant::Format::f16 || p.kv.format == quant::Format::bf16;
  if (p.head_dim == 64 && narrow && p.cos && p.rope_style == backend::RopeStyle::neox &&
      !p.q_norm && !p.k_norm) {
    const int64_t threads = int64_t{p.rows} * (p.heads + 2 * p.kv_heads) * 32;
    rope_store_kv_64_kernel<<<blocks_for(threads), kThreads, 0, stream>>>(p);
    return;
  }
  const dim3 grid(p.heads + 2 * p.kv_heads, p.rows);
  const HeadParams h{p, weights_of(p.q_norm), weights_of(p.k_norm),
                     quant::traits(p.kv.format).row_bytes(p.head_dim)};
  qk_norm_rope_store_kv_kernel<<<grid, kHeadThreads, 0, stream>>>(h);
}

void activate(const backend::Activation& activation, float* gate, const float* up, int64_t n,
              CudaStream stream) {
  activate_kernel<<<blocks_for(n), kThreads, 0, stream>>>(activation, gate, up, n);
}

}  // namespace mxgpt::cuda
