// Matrix-vector products outside the experts: qkv, o_proj and logits.
#include <algorithm>

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/launch.cuh"
#include "backend/cuda/sm90/stream.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

/// Pipeline stages per warp. Deeper pipelines are slower: queued weight copies delay the activation
/// loads that a kernel waits for. At four columns, the operands leave space for one stage.
__host__ __device__ constexpr int stages(WeightType kind, int columns) {
  return kind == WeightType::bf16 && columns == 4 ? 1 : 2;
}
__host__ __device__ constexpr int ring_bytes(WeightType kind, int columns) {
  return kWarps * stages(kind, columns) * chunk_pairs(kind) * pair_bytes(kind);
}
constexpr int columns_for(int rows) {
  return rows <= 2 ? 1 : rows <= 4 ? 2 : 4;
}

/// Shared memory layout of a block.
struct WeightLayout {
  int planes, scales, partial, barriers, red, extra, bytes;

  __host__ __device__ WeightLayout(WeightType kind, int columns, int pairs, int rows, int partials,
                                   int extra_floats) {
    int at = ring_bytes(kind, columns);
    const auto take = [&at](int size) {
      const int start = at;
      at = align_up(at + size, 128);
      return start;
    };
    planes = take(rows * 2 * Operand::stride_of(kind, pairs));
    scales = take(kind == WeightType::q8_0 ? rows * 2 * pairs * 4 : 0);
    partial = take(partials * kTileRows * rows * 4);
    barriers = take(2 * kWarps * stages(kind, columns) * 8);
    red = take(kWarps * rows * 4);
    extra = take(extra_floats * 4);
    bytes = at > kAloneBytes ? at : kAloneBytes;
  }
};

extern __shared__ __align__(128) uint8_t shared[];

/// rms_scale of each row, from the squares that the warps left in `red`.
__device__ inline float rms_scale(const float* red, int rows, int row, int k, float eps) {
  float sum = 0;
#pragma unroll 4
  for (int w = 0; w < kWarps; ++w) sum += red[w * rows + row];
  return rsqrtf(sum / static_cast<float>(k) + eps);
}

/// All rows as operands, and their squares to `red`. `first` holds row 0's beginning, `weight` the
/// norm's.
template <WeightType kind>
__device__ inline void fill_operand(const Operand& operand, const WeightLayout& at,
                                    const RowRegisters& first, const RowRegisters& weights,
                                    const float* in, const float* weight, int k, int rows) {
  float* const red = reinterpret_cast<float*>(shared + at.red);
  RowRegisters x = first;
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    if (row) x.load(in + int64_t{row} * k, k);
    const float sum =
        warp_sum(write_operand<kind>(operand, row, x, weights, in + int64_t{row} * k, weight, k));
    if (threadIdx.x % 32 == 0) red[threadIdx.x / 32 * rows + row] = sum;
  }
}

/// Rows of the block's tiles, in parts by chunk: partial[(tile · chunks + chunk) · 8 + r][row].
__device__ inline float sum_of_chunks(const float* partial, int chunks, int tile, int r, int rows,
                                      int row) {
  float sum = 0;
#pragma unroll 3
  for (int c = 0; c < chunks; ++c)
    sum += partial[((tile * chunks + c) * kTileRows + r) * rows + row];
  return sum;
}

template <WeightType kind, int kColumns, class Ring>
__device__ inline void stream_to_partials(Ring& ring, const Operand& operand, float* partial,
                                          int rows) {
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  ring.run([&](const uint8_t* stage, int tile, int chunk) {
    float sum[kColumns];
    multiply<kind, kColumns>(stage, chunk, operand, rows, sum);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const int row = 2 * n + t / 2;
      if (t % 2 == 0 && row < rows)
        partial[((tile * ring.chunks() + chunk) * kTileRows + r) * rows + row] = sum[n];
    }
  });
}

__device__ inline void store_16bit(uint16_t* at, float v, bool bf16) {
  if (bf16)
    *reinterpret_cast<__nv_bfloat16*>(at) = __float2bfloat16(v);
  else
    *reinterpret_cast<__half*>(at) = __float2half(v);
}

/// Destination of one output of qkv, with its bias and rotation.
struct Place {
  int row = 0, local = 0;     ///< of the batch; of the block's rows of the tiles
  float* out = nullptr;       ///< of a query, or
  uint16_t* cache = nullptr;  ///< of a key or value; neither beyond the last row
  float bias = 0, cos = 1, sin = 0;

  __device__ Place(const Qkv& p, int first_tile, int per_row, int i) {
    if (i >= per_row * p.rows) return;
    row = i / per_row, local = i % per_row;
    tile_ = first_tile + local / kTileRows;
    part_ = tile_ < p.q.tiles() ? 0 : tile_ < p.q.tiles() + p.k.tiles() ? 1 : 2;
    tile_ -= part_ == 0 ? 0 : part_ == 1 ? p.q.tiles() : p.q.tiles() + p.k.tiles();
    const int r = local % kTileRows;
    feature_ = part_ == 2 ? tile_ * kTileRows + r
                          : tile_ / 8 * 64 + 4 * (tile_ % 8) + r % 4 + (r >= 4 ? 32 : 0);
  }
  __device__ void load_bias(const Qkv& p) {
    const float* from = part_ == 0 ? p.q_bias : part_ == 1 ? p.k_bias : p.v_bias;
    if (part_ >= 0 && from) bias = from[feature_];
  }
  __device__ void load(const Qkv& p) {
    if (part_ < 0) return;
    if (part_ == 0) {
      out = p.q_out + int64_t{row} * p.q.rows + feature_;
    } else {
      const int position = p.coords.positions[row];
      const int64_t page = p.kv.table[p.coords.sequences[row] * p.kv.stride + position / 32];
      cache = static_cast<uint16_t*>(part_ == 1 ? p.kv.keys : p.kv.values) +
              ((page * p.kv_heads + feature_ / 64) * 32 + position % 32) * 64 + feature_ % 64;
    }
    if (part_ == 2) return;
    cos = p.cos[row * 32 + feature_ % 32];
    sin = p.sin[row * 32 + feature_ % 32];
    if (feature_ % 64 < 32) sin = -sin;
  }

 private:
  int part_ = -1, tile_ = 0, feature_ = 0;
};

template <WeightType kind, int kColumns>
__global__ void __launch_bounds__(kBlockThreads, 1) qkv_kernel(Qkv p) {
  let_next_kernel_start();
  const int q_tiles = p.q.tiles(), k_tiles = p.k.tiles(), v_tiles = p.v.tiles();
  const Share share(q_tiles + k_tiles + v_tiles, blockIdx.x, gridDim.x);
  const int pairs = p.q.pairs(), chunks = p.q.chunks();
  const int most = largest_share(q_tiles + k_tiles + v_tiles, gridDim.x);
  const WeightLayout at(kind, kColumns, pairs, p.rows, most * chunks, 0);
  const auto source = [&](int tile, int) {
    const int i = share.first + tile;
    const PackedWeight& w = i < q_tiles ? p.q : i < q_tiles + k_tiles ? p.k : p.v;
    const int first = i < q_tiles ? 0 : i < q_tiles + k_tiles ? q_tiles : q_tiles + k_tiles;
    return w.data + (i - first) * w.tile_bytes();
  };
  Ring<kind, 1, stages(kind, kColumns)> ring(shared, shared + at.barriers, chunks, share.count);
  if (fetches()) {
    ring.init_barriers();
    arrive_for_all();
    ring.fetch(source);
    return;
  }
  RowRegisters weights, x;
  weights.load(p.norm.weight, p.q.k);
  const int per_row = share.count * kTileRows;
  Place place(p, share.first, per_row, threadIdx.x);
  place.load_bias(p);

  wait_for_previous_kernels();
  x.load(p.x, p.q.k);
  place.load(p);
  const Operand operand{shared + at.planes, reinterpret_cast<float*>(shared + at.scales),
                        Operand::stride_of(kind, pairs), pairs};
  fill_operand<kind>(operand, at, x, weights, p.x, p.norm.weight, p.q.k, p.rows);
  meet_all();
  float* const partial = reinterpret_cast<float*>(shared + at.partial);
  stream_to_partials<kind, kColumns>(ring, operand, partial, p.rows);
  meet();

  // A thread for each row of the tiles; whole warps, since halves of a pair meet by shuffles.
  const float* const red = reinterpret_cast<const float*>(shared + at.red);
#pragma unroll 1
  for (int first = 0; first < per_row * p.rows; first += kThreads) {
    if (first) {
      place = Place(p, share.first, per_row, first + threadIdx.x);
      place.load_bias(p);
      place.load(p);
    }
    float y = sum_of_chunks(partial, chunks, place.local / kTileRows, place.local % kTileRows,
                            p.rows, place.row);
    if (p.norm.weight) y *= rms_scale(red, p.rows, place.row, p.q.k, p.norm.eps);
    y += place.bias;
    const float other = __shfl_xor_sync(0xffffffff, y, kTileRows / 2);
    y = y * place.cos + other * place.sin;
    if (place.cache)
      store_16bit(place.cache, y, p.kv.bf16);
    else if (place.out)
      *place.out = y;
  }
}

template <WeightType kind, int kColumns>
__global__ void __launch_bounds__(kBlockThreads, 1) o_proj_kernel(OProj p) {
  let_next_kernel_start();
  const int tiles = p.weight.tiles(), pairs = p.weight.pairs(), chunks = p.weight.chunks();
  const Share share(tiles, blockIdx.x, gridDim.x);
  const int most = largest_share(tiles, gridDim.x), most_rows = most * kTileRows;
  const WeightLayout at(kind, kColumns, pairs, p.rows, most * chunks,
                        (p.router.experts + p.rows) * most_rows);
  const auto source = [&](int tile, int) {
    return p.weight.data + (share.first + tile) * p.weight.tile_bytes();
  };
  Ring<kind, 1, stages(kind, kColumns)> ring(shared, shared + at.barriers, chunks, share.count);
  if (fetches()) {
    ring.init_barriers();
    arrive_for_all();
    ring.fetch(source);
    return;
  }

  // The router's columns for this block's rows of x, with the norm's weight.
  float* const router = reinterpret_cast<float*>(shared + at.extra);
  float* const fresh = router + p.router.experts * most_rows;  // [rows][most_rows], the new x
  const int first_row = share.first * kTileRows;
  const int own_rows = min(share.count * kTileRows, p.weight.rows - first_row);
#pragma unroll 2
  for (int i = threadIdx.x; i < p.router.experts * own_rows; i += kThreads) {
    const int e = i / own_rows, column = first_row + i % own_rows;
    router[e * most_rows + i % own_rows] =
        p.router.weight[int64_t{e} * p.weight.rows + column] * p.router.norm[column];
  }
  // Bias and residual of this thread's first result.
  const int local = threadIdx.x;
  float old = 0;
  if (local < own_rows * p.rows && p.bias) old = p.bias[first_row + local % own_rows];

  wait_for_previous_kernels();
  const Operand operand{shared + at.planes, reinterpret_cast<float*>(shared + at.scales),
                        Operand::stride_of(kind, pairs), pairs};
  RowRegisters in;
  in.load(p.in, p.weight.k);
  if (local < own_rows * p.rows)
    old += p.x[int64_t{local / own_rows} * p.weight.rows + first_row + local % own_rows];
  fill_operand<kind>(operand, at, in, {}, p.in, nullptr, p.weight.k, p.rows);
  meet_all();
  float* const partial = reinterpret_cast<float*>(shared + at.partial);
  stream_to_partials<kind, kColumns>(ring, operand, partial, p.rows);
  meet();

#pragma unroll 1
  for (int i = local; i < own_rows * p.rows; i += kThreads) {
    const int row = i / own_rows, own = i % own_rows;
    float* const x = p.x + int64_t{row} * p.weight.rows + first_row + own;
    float y = sum_of_chunks(partial, chunks, own / kTileRows, own % kTileRows, p.rows, row);
    y += i == local ? old : *x + (p.bias ? p.bias[first_row + own] : 0.f);
    *x = y;
    fresh[row * most_rows + own] = y;
  }
  if (p.router.experts == 0) return;
  meet();
  // Eight threads an output.
  const int stride = align_up(p.router.experts + 1, 4), part = threadIdx.x % 8;
#pragma unroll 1
  for (int first = 0; first < p.rows * (p.router.experts + 1); first += kThreads / 8) {
    const int i = first + threadIdx.x / 8;
    const bool inside = i < p.rows * (p.router.experts + 1);
    const int row = inside ? i / (p.router.experts + 1) : 0, e = i % (p.router.experts + 1);
    const float* const x = fresh + row * most_rows;
    const float* const w = e < p.router.experts ? router + e * most_rows : x;
    float sum = 0;
#pragma unroll 1
    for (int own = part; own < own_rows; own += 8) sum = fmaf(x[own], w[own], sum);
    for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (inside && part == 0)
      p.router_parts[(int64_t{row} * gridDim.x + blockIdx.x) * stride + e] = sum;
  }
}

/// Tiles are many here: a warp takes whole ones and needs no partial sums.
template <WeightType kind, int kColumns>
__global__ void __launch_bounds__(kBlockThreads, 1) logits_kernel(Logits p) {
  let_next_kernel_start();
  const int pairs = p.head.pairs(), chunks = p.head.chunks();
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  const Share share(p.head.tiles(), blockIdx.x * kWarps + min(ring_index(), kWarps - 1),
                    gridDim.x * kWarps);
  const WeightLayout at(kind, kColumns, pairs, p.rows, 0, 0);
  const auto source = [&](int tile, int) {
    return p.head.data + (share.first + tile) * p.head.tile_bytes();
  };
  Ring<kind, 1, stages(kind, kColumns)> ring(shared, shared + at.barriers, chunks, 0,
                                             share.count * chunks);
  if (fetches()) {
    ring.init_barriers();
    arrive_for_all();
    ring.fetch(source);
    return;
  }
  RowRegisters weights, x;
  weights.load(p.norm.weight, p.head.k);

  wait_for_previous_kernels();
  x.load(p.x, p.head.k);
  const Operand operand{shared + at.planes, reinterpret_cast<float*>(shared + at.scales),
                        Operand::stride_of(kind, pairs), pairs};
  fill_operand<kind>(operand, at, x, weights, p.x, p.norm.weight, p.head.k, p.rows);
  meet_all();
  const float* const red = reinterpret_cast<const float*>(shared + at.red);
  float scale[kColumns], total[kColumns] = {};
#pragma unroll
  for (int n = 0; n < kColumns; ++n)
    scale[n] = p.norm.weight
                   ? rms_scale(red, p.rows, min(2 * n + t / 2, p.rows - 1), p.head.k, p.norm.eps)
                   : 1.f;
  ring.run([&](const uint8_t* stage, int tile, int chunk) {
    float sum[kColumns];
    multiply<kind, kColumns>(stage, chunk, operand, p.rows, sum);
    const int out_row = (share.first + tile) * kTileRows + r;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      total[n] += sum[n];
      if (chunk + 1 < ring.chunks()) continue;
      const int row = 2 * n + t / 2;
      if (t % 2 == 0 && row < p.rows && out_row < p.head.rows)
        p.logits[int64_t{row} * p.head.rows + out_row] = total[n] * scale[n];
      total[n] = 0;
    }
  });
}

template <WeightType kind>
void (*qkv_for(int rows))(Qkv) {
  return rows <= 2 ? qkv_kernel<kind, 1> : rows <= 4 ? qkv_kernel<kind, 2> : qkv_kernel<kind, 4>;
}
template <WeightType kind>
void (*project_for(int rows))(OProj) {
  return rows <= 2   ? o_proj_kernel<kind, 1>
         : rows <= 4 ? o_proj_kernel<kind, 2>
                     : o_proj_kernel<kind, 4>;
}
template <WeightType kind>
void (*logits_for(int rows))(Logits) {
  return rows <= 2   ? logits_kernel<kind, 1>
         : rows <= 4 ? logits_kernel<kind, 2>
                     : logits_kernel<kind, 4>;
}

}  // namespace

bool is_supported_here() {
  int device = 0, major = 0, shared_bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return major >= 9 && shared_bytes >= 227 * 1024;
}

int router_parts() {
  return multiprocessors();
}

void qkv(const Qkv& p, CUstream_st* stream) {
  const int tiles = p.q.tiles() + p.k.tiles() + p.v.tiles();
  const int blocks = std::min(multiprocessors(), tiles);
  const WeightLayout at(p.q.kind, columns_for(p.rows), p.q.pairs(), p.rows,
                        largest_share(tiles, blocks) * p.q.chunks(), 0);
  const auto kernel = p.q.kind == WeightType::q8_0    ? qkv_for<WeightType::q8_0>(p.rows)
                      : p.q.kind == WeightType::mxfp4 ? qkv_for<WeightType::mxfp4>(p.rows)
                                                      : qkv_for<WeightType::bf16>(p.rows);
  launch(kernel, p, dim3(blocks), kBlockThreads, at.bytes, stream);
}

void o_proj(const OProj& p, CUstream_st* stream) {
  const int tiles = p.weight.tiles(), blocks = multiprocessors();
  const int most = largest_share(tiles, blocks);
  const WeightLayout at(p.weight.kind, columns_for(p.rows), p.weight.pairs(), p.rows,
                        most * p.weight.chunks(), (p.router.experts + p.rows) * most * kTileRows);
  const auto kernel = p.weight.kind == WeightType::q8_0    ? project_for<WeightType::q8_0>(p.rows)
                      : p.weight.kind == WeightType::mxfp4 ? project_for<WeightType::mxfp4>(p.rows)
                                                           : project_for<WeightType::bf16>(p.rows);
  launch(kernel, p, dim3(blocks), kBlockThreads, at.bytes, stream);
}

void logits(const Logits& p, CUstream_st* stream) {
  const WeightLayout at(p.head.kind, columns_for(p.rows), p.head.pairs(), p.rows, 0, 0);
  const auto kernel = p.head.kind == WeightType::q8_0    ? logits_for<WeightType::q8_0>(p.rows)
                      : p.head.kind == WeightType::mxfp4 ? logits_for<WeightType::mxfp4>(p.rows)
                                                         : logits_for<WeightType::bf16>(p.rows);
  launch(kernel, p, dim3(multiprocessors()), kBlockThreads, at.bytes, stream);
}

}  // namespace mxgpt::cuda::sm90
