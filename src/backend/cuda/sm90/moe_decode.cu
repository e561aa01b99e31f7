// gate_up and down: the selected experts of one row.
#include <algorithm>

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/launch.cuh"
#include "backend/cuda/sm90/routing.cuh"
#include "backend/cuda/sm90/stream.cuh"
#include "backend/cuda/sm90/swiglu.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr WeightType kKind = WeightType::mxfp4;
constexpr int kGateUpStages = 2, kDownStages = 4;
using GateUpRing = Ring<kKind, 2, kGateUpStages>;
using DownRing = Ring<kKind, 1, kDownStages>;

struct GateUpLayout {
  int planes, partial, barriers, routing, chosen, bytes;
  __host__ __device__ GateUpLayout(int pairs, int partials) {
    planes = GateUpRing::kBytes;
    partial = align_up(planes + 2 * Operand::stride_of(kKind, pairs), 128);
    barriers = align_up(partial + partials * kTileRows * 4, 128);
    routing = align_up(barriers + GateUpRing::kBarrierBytes, 128);
    chosen = routing + kRoutingBytes;
    bytes = chosen + static_cast<int>(sizeof(TopKResult));
    bytes = bytes > kAloneBytes ? bytes : kAloneBytes;
  }
};

struct DownLayout {
  int planes, partial, barriers, routing, chosen, bytes;
  __host__ __device__ DownLayout(int pairs, int top_k, int partials) {
    planes = DownRing::kBytes;
    partial = align_up(planes + top_k * 2 * Operand::stride_of(kKind, pairs), 128);
    barriers = align_up(partial + partials * kTileRows * 4, 128);
    routing = align_up(barriers + DownRing::kBarrierBytes, 128);
    chosen = routing + kRoutingBytes;
    bytes = chosen + static_cast<int>(sizeof(TopKResult));
    bytes = bytes > kAloneBytes ? bytes : kAloneBytes;
  }
};

extern __shared__ __align__(128) uint8_t shared[];

/// Sums in the order of chunks, as in dense.cu.
__device__ inline float sum_of_chunks(const float* partial, int chunks, int tile, int r) {
  float sum = 0;
#pragma unroll 3
  for (int c = 0; c < chunks; ++c) sum += partial[(tile * chunks + c) * kTileRows + r];
  return sum;
}

template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads, 1) gate_up_kernel(GateUp p) {
  const int tiles = p.gate.tiles(), pairs = p.gate.pairs(), chunks = p.gate.chunks();
  const int units = p.router.top_k * tiles;
  const Share share(units, blockIdx.x, gridDim.x);
  const int first_unit = share.first, count = share.count;
  const GateUpLayout at(pairs, 2 * largest_share(units, gridDim.x) * chunks);
  GateUpRing ring(shared, shared + at.barriers, chunks, count);
  float* const routing = reinterpret_cast<float*>(shared + at.routing);
  TopKResult& chosen = *reinterpret_cast<TopKResult*>(shared + at.chosen);
  if (fetches()) {
    ring.init_barriers();
    wait_for_previous_kernels();
    // Not before: so that `down` finds the routing's parts complete when it starts.
    let_next_kernel_start();
    __syncthreads();
    choose<kPerLane>(p.router, routing, p.gate.k, chosen);
    arrive_for_all();
    ring.fetch([&](int tile, int part) {
      const int unit = first_unit + tile, slot = unit / tiles;
      const PackedWeight& w = part ? p.up : p.gate;
      return w.data + chosen.expert[slot] * w.slice_bytes() +
             (unit - slot * tiles) * w.tile_bytes();
    });
    return;
  }
  RowRegisters x, weights;
  weights.load(p.router.norm, p.gate.k);
  wait_for_previous_kernels();
  let_next_kernel_start();
  x.load(p.x, p.gate.k);
  gather_parts(p.router, p.router_parts, routing);
  __syncthreads();
  const Operand operand{shared + at.planes, nullptr, Operand::stride_of(kKind, pairs), pairs};
  write_operand<kKind>(operand, 0, x, weights, p.x, p.router.norm, p.gate.k);
  meet_all();
  // A thread for each row of the tiles, at the end.
  const auto row_of = [&](int i) {
    const int unit = first_unit + i / kTileRows;
    return unit % tiles * kTileRows + i % kTileRows;
  };
  const auto bias_of = [&](const float* bias, int i) {
    const int row = row_of(i), slot = (first_unit + i / kTileRows) / tiles;
    return i < count * kTileRows && row < p.gate.rows
               ? bias[int64_t{chosen.expert[slot]} * p.gate.rows + row]
               : 0.f;
  };
  const float gate_bias = bias_of(p.gate_bias, threadIdx.x);
  const float up_bias = bias_of(p.up_bias, threadIdx.x);
  float* const partial = reinterpret_cast<float*>(shared + at.partial);
  const int lane = threadIdx.x % 32;
  ring.run([&](const uint8_t* stage, int tile, int chunk) {
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      float sum[1];
      multiply<kKind, 1>(stage + part * GateUpRing::kPartBytes, chunk, operand, 1, sum);
      if (lane % 4 == 0)
        partial[((2 * tile + part) * chunks + chunk) * kTileRows + lane / 4] = sum[0];
    }
  });
  meet();
#pragma unroll 1
  for (int i = threadIdx.x; i < count * kTileRows; i += kThreads) {
    const int tile = i / kTileRows, r = i % kTileRows, slot = (first_unit + tile) / tiles;
    const int row = row_of(i);
    if (row >= p.gate.rows) continue;
    const bool early = i < kThreads;
    // Fused by name: experts_rows.cu has the same bits.
    const float gate = fmaf(sum_of_chunks(partial, chunks, 2 * tile, r), chosen.rms_scale,
                            early ? gate_bias : bias_of(p.gate_bias, i));
    const float up = fmaf(sum_of_chunks(partial, chunks, 2 * tile + 1, r), chosen.rms_scale,
                          early ? up_bias : bias_of(p.up_bias, i));
    const int stride =
        Operand::stride_of(kKind, PackedWeight{nullptr, kKind, 0, p.gate.rows}.pairs());
    store_activated(p.activated + slot * 2 * stride, stride, row, swiglu(gate, up, p.swiglu));
  }
}

template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads, 1) down_kernel(Down p) {
  let_next_kernel_start();
  const int tiles = p.down.tiles(), pairs = p.down.pairs(), chunks = p.down.chunks();
  const int top_k = p.router.top_k;
  const Share share(tiles, blockIdx.x, gridDim.x);
  const int first_tile = share.first, count = share.count;
  const DownLayout at(pairs, top_k, top_k * largest_share(tiles, gridDim.x) * chunks);
  DownRing ring(shared, shared + at.barriers, chunks, count * top_k);
  float* const routing = reinterpret_cast<float*>(shared + at.routing);
  TopKResult& chosen = *reinterpret_cast<TopKResult*>(shared + at.chosen);
  if (fetches()) {
    ring.init_barriers();
    __syncthreads();
    choose<kPerLane>(p.router, routing, p.down.rows, chosen);
    arrive_for_all();
    ring.fetch([&](int i, int) {
      return p.down.data + chosen.expert[i % top_k] * p.down.slice_bytes() +
             (first_tile + i / top_k) * p.down.tile_bytes();
    });
    return;
  }
  // gate_up has waited for whoever wrote these.
  gather_parts(p.router, p.router_parts, routing);
  __syncthreads();
  meet_all();
  // A thread for each row and slot, at the end.
  const int slot = threadIdx.x % kMaxTopK, own = threadIdx.x / kMaxTopK;
  const int row = first_tile * kTileRows + own;
  const bool has_row = own < count * kTileRows && row < p.down.rows;
  float bias = 0, old = 0;
  if (has_row && slot < top_k) bias = p.bias[int64_t{chosen.expert[slot]} * p.down.rows + row];

  wait_for_previous_kernels();
  const int stride = Operand::stride_of(kKind, pairs), vectors = top_k * 2 * stride / 16;
#pragma unroll 8
  for (int i = threadIdx.x; i < vectors; i += kThreads)
    reinterpret_cast<uint4*>(shared + at.planes)[i] =
        __ldcg(reinterpret_cast<const uint4*>(p.activated) + i);
  if (has_row) old = p.x[row];
  meet();
  float* const partial = reinterpret_cast<float*>(shared + at.partial);
  const int lane = threadIdx.x % 32;
  ring.run([&](const uint8_t* stage, int i, int chunk) {
    const Operand operand{shared + at.planes + i % top_k * 2 * stride, nullptr, stride, pairs};
    float sum[1];
    multiply<kKind, 1>(stage, chunk, operand, 1, sum);
    if (lane % 4 == 0) partial[(i * chunks + chunk) * kTileRows + lane / 4] = sum[0];
  });
  meet();
  float part = 0;
  if (has_row && slot < top_k)
    part = chosen.weight[slot] *
           (sum_of_chunks(partial, chunks, own / kTileRows * top_k + slot, own % kTileRows) + bias);
  float sum = 0;
  for (int s = 0; s < kMaxTopK; ++s)
    sum += __shfl_sync(0xffffffff, part, (lane & ~(kMaxTopK - 1)) + s);
  if (has_row && slot == 0) p.x[row] = old + sum;
}

}  // namespace

void gate_up(const GateUp& p, CUstream_st* stream) {
  const int units = p.router.top_k * p.gate.tiles(), blocks = multiprocessors();
  const GateUpLayout at(p.gate.pairs(), 2 * ((units + blocks - 1) / blocks) * p.gate.chunks());
  launch(p.router.experts <= 32 ? gate_up_kernel<1> : gate_up_kernel<kMaxExperts / 32>, p,
         dim3(blocks), kBlockThreads, at.bytes, stream);
}

void down(const Down& p, CUstream_st* stream) {
  // No more rows to a block than it has threads for at the end.
  const int most_tiles = kThreads / kMaxTopK / kTileRows;
  const int blocks = std::max(multiprocessors(), (p.down.tiles() + most_tiles - 1) / most_tiles);
  const int most = (p.down.tiles() + blocks - 1) / blocks;
  const DownLayout at(p.down.pairs(), p.router.top_k, p.router.top_k * most * p.down.chunks());
  launch(p.router.experts <= 32 ? down_kernel<1> : down_kernel<kMaxExperts / 32>, p, dim3(blocks),
         kBlockThreads, at.bytes, stream);
}

}  // namespace mxgpt::cuda::sm90
