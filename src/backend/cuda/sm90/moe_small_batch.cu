// Experts of a few rows: each selected expert is read once and multiplied with the activations of
// all rows that selected it. A row's sums have the same order as in moe_decode.cu.
#include <algorithm>

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/launch.cuh"
#include "backend/cuda/sm90/routing.cuh"
#include "backend/cuda/sm90/stream.cuh"
#include "backend/cuda/sm90/swiglu.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr WeightType kKind = WeightType::mxfp4;
constexpr int kStages = 2;
constexpr int kMostPairs = kMaxRows * kMaxTopK;  ///< (row, selected expert) pairs; one lane each
static_assert(kMostPairs == 32);

extern __shared__ __align__(128) uint8_t shared[];

/// One block per row: its selected experts, and norm(x) without its scale as an operand.
template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads, 1) route_kernel(MoeSmallBatch p) {
  __shared__ float sums[kRoutingBytes / 4];
  __shared__ TopKResult chosen;
  let_next_kernel_start();
  const int row = blockIdx.x, k = p.gate.k;
  const float* const x = p.x + int64_t{row} * k;
  if (fetches()) {
    wait_for_previous_kernels();
    __syncthreads();
    choose<kPerLane>(p.router, sums, k, chosen);
    if (threadIdx.x % 32 == 0) p.scratch.chosen[row] = chosen;
    return;
  }
  RowRegisters in, weights;
  weights.load(p.router.norm, k);
  wait_for_previous_kernels();
  in.load(x, k);
  gather_parts(p.router,
               p.router_parts + int64_t{row} * p.router.parts * part_stride(p.router.experts),
               sums);
  __syncthreads();
  const int pairs = p.gate.pairs();
  write_operand<kKind>({p.scratch.normed, nullptr, Operand::stride_of(kKind, pairs), pairs}, row,
                       in, weights, x, p.router.norm, k);
}

/// An expert and the pairs that chose it, a bit each.
struct Segment {
  int expert;
  uint32_t pairs;
};

/// All of the step's segments, worked out by one warp: the order is that of the first pair of each.
struct Segments {
  Segment of[kMostPairs];
  int count;

  __device__ void find(const MoeSmallBatch& p) {
    const int lane = threadIdx.x % 32, row = lane / p.router.top_k, slot = lane % p.router.top_k;
    const int expert = row < p.rows ? p.scratch.chosen[row].expert[slot] : -1;
    const uint32_t same = __match_any_sync(0xffffffff, expert);
    const bool first = expert >= 0 && __ffs(same) - 1 == lane;
    const uint32_t firsts = __ballot_sync(0xffffffff, first);
    if (first) of[__popc(firsts & ((1u << lane) - 1))] = {expert, same};
    if (lane == 0) count = __popc(firsts);
    __syncwarp();
  }
};

/// Rows of the batch whose operands lie in shared memory, in the order of a segment's pairs.
struct Listed {
  const uint8_t* planes;  ///< of the segment
  const uint8_t* slot;    ///< [pair of the segment]: whose planes
  int stride;
  __device__ const uint8_t* plane(int i, int part) const {
    return planes + (2 * slot[i] + part) * stride;
  }
};

/// Shared memory layout of a block, whose units belong to at most two segments.
template <int kWeightParts>
struct RowsLayout {
  using Tiles = Ring<kKind, kWeightParts, kStages>;
  int planes, barriers, segments, lists, chosen, bytes;
  __host__ __device__ RowsLayout(int pairs, int operands, int rows) {
    planes = Tiles::kBytes;
    barriers = align_up(planes + operands * 2 * Operand::stride_of(kKind, pairs), 128);
    segments = align_up(barriers + Tiles::kBarrierBytes, 128);
    lists = align_up(segments + static_cast<int>(sizeof(Segments)), 16);
    chosen = lists + 2 * 2 * kMaxRows;
    bytes = align_up(chosen + rows * static_cast<int>(sizeof(TopKResult)), 16);
    bytes = bytes > kAloneBytes ? bytes : kAloneBytes;
  }
};
/// Operands in shared memory: of gate and up all rows', of down those of the block's segments.
constexpr int operands_of(int parts, int rows, int top_k) {
  return parts == 2 ? rows : std::min(2 * rows, rows * top_k);
}

/// A block's range of units; a unit is a tile of a segment. Units of blocks are no more than a
/// segment has tiles.
constexpr int blocks_for(int multiprocessors, int rows, int top_k) {
  return std::max(multiprocessors, rows * top_k);
}

/// gate and up (kParts 2) or down (1) of all rows. `Finish` is given each result.
template <int kWeightParts>
__global__ void __launch_bounds__(kBlockThreads, 1) rows_kernel(MoeSmallBatch p) {
  const PackedWeight& first_weight = kWeightParts == 2 ? p.gate : p.down;
  const int tiles = first_weight.tiles(), pairs = first_weight.pairs();
  const int chunks = first_weight.chunks(), top_k = p.router.top_k;
  const int stride = Operand::stride_of(kKind, pairs);
  const RowsLayout<kWeightParts> at(pairs, operands_of(kWeightParts, p.rows, top_k), p.rows);
  Segments& segments = *reinterpret_cast<Segments*>(shared + at.segments);
  // [segment][pair] of the block's two segments: the pair, and the slot of its operand.
  uint8_t* const lists = shared + at.lists;
  TopKResult* const chosen = reinterpret_cast<TopKResult*>(shared + at.chosen);
  using Tiles = typename RowsLayout<kWeightParts>::Tiles;

  wait_for_previous_kernels();
  let_next_kernel_start();
  const int lane = threadIdx.x % 32;
  if (fetches()) {
    segments.find(p);
    const Share share(segments.count * tiles, blockIdx.x, gridDim.x);
    const int first_segment = share.first / tiles;
    int used = 0;
    for (int s = 0; s < 2 && first_segment + s < segments.count; ++s) {
      const uint32_t own = segments.of[first_segment + s].pairs;
      const int i = __popc(own & ((1u << lane) - 1));
      if (own >> lane & 1) {
        lists[(2 * s) * kMaxRows + i] = static_cast<uint8_t>(lane);
        lists[(2 * s + 1) * kMaxRows + i] =
            static_cast<uint8_t>(kWeightParts == 2 ? lane / top_k : used + i);
      }
      used += __popc(own);
    }
  } else {
    // The rows' choices, word by word.
    const int words = p.rows * static_cast<int>(sizeof(TopKResult) / 4);
    for (int i = threadIdx.x; i < words; i += kThreads)
      reinterpret_cast<uint32_t*>(chosen)[i] =
          reinterpret_cast<const uint32_t*>(p.scratch.chosen)[i];
  }
  __syncthreads();

  const Share share(segments.count * tiles, blockIdx.x, gridDim.x);
  const int first_segment = share.first / tiles;
  // A warp takes whole units.
  const Share own(share.count, min(ring_index(), kWarps - 1), kWarps);
  Tiles ring(shared, shared + at.barriers, chunks, 0, own.count * chunks);
  if (fetches()) {
    ring.init_barriers();
    arrive_for_all();
    ring.fetch([&](int i, int part) {
      const int unit = share.first + own.first + i, segment = unit / tiles;
      const PackedWeight& w = kWeightParts == 1 ? p.down : part ? p.up : p.gate;
      return w.data + segments.of[segment].expert * w.slice_bytes() +
             (unit - segment * tiles) * w.tile_bytes();
    });
    return;
  }
  // Operands: of all rows, or of the pairs of the block's segments.
  const int last_segment = share.count ? (share.first + share.count - 1) / tiles : first_segment;
  int count[2] = {};
  for (int s = 0; s < 2 && first_segment + s <= min(last_segment, segments.count - 1); ++s)
    count[s] = __popc(segments.of[first_segment + s].pairs);
  const int operands = kWeightParts == 2 ? p.rows : count[0] + count[1], vectors = 2 * stride / 16;
#pragma unroll 4
  for (int i = threadIdx.x; i < operands * vectors; i += kThreads) {
    const int operand = i / vectors, s = operand >= count[0];
    const int source =
        kWeightParts == 2 ? operand : lists[2 * s * kMaxRows + operand - (s ? count[0] : 0)];
    reinterpret_cast<uint4*>(shared + at.planes)[i] = __ldcg(
        reinterpret_cast<const uint4*>(kWeightParts == 2 ? p.scratch.normed : p.scratch.activated) +
        int64_t{source} * vectors + i - operand * vectors);
  }
  meet_all();

  const int r = lane / 4, t = lane % 4;
  float total[kWeightParts][4] = {};
  float bias[kWeightParts] = {};
  ring.run([&](const uint8_t* stage, int i, int chunk) {
    const int unit = share.first + own.first + i, segment = unit / tiles;
    const int s = segment - first_segment, rows = count[s], expert = segments.of[segment].expert;
    const int out_row = (unit - segment * tiles) * kTileRows + r;
    const bool inside = out_row < first_weight.rows;
    if (chunk == 0 && inside) {  // long before they are needed
      const int64_t from = int64_t{expert} * first_weight.rows + out_row;
      bias[0] = kWeightParts == 2 ? p.gate_bias[from] : p.down_bias[from];
      if constexpr (kWeightParts == 2) bias[1] = p.up_bias[from];
    }
    const Listed operand{shared + at.planes, lists + (2 * s + 1) * kMaxRows, stride};
#pragma unroll
    for (int part = 0; part < kWeightParts; ++part) {
      const uint8_t* const tile = stage + part * Tiles::kPartBytes;
      float sum[4] = {};
      if (rows <= 2)
        multiply<kKind, 1>(tile, chunk, operand, rows, sum);
      else if (rows <= 4)
        multiply<kKind, 2>(tile, chunk, operand, rows, sum);
      else
        multiply<kKind, 4>(tile, chunk, operand, rows, sum);
#pragma unroll
      for (int n = 0; n < 4; ++n) total[part][n] += sum[n];
    }
    if (chunk + 1 < chunks) return;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int of = 2 * n + t / 2;
      if (t % 2 == 0 && of < rows && inside) {
        const int pair = lists[2 * s * kMaxRows + of];
        const TopKResult& choice = chosen[pair / top_k];
        if constexpr (kWeightParts == 2) {
          const float gate = fmaf(total[0][n], choice.rms_scale, bias[0]);
          const float up = fmaf(total[1][n], choice.rms_scale, bias[1]);
          const int to = Operand::stride_of(kKind, p.down.pairs());
          store_activated(p.scratch.activated + pair * 2 * to, to, out_row,
                          swiglu(gate, up, p.swiglu));
        } else {
          p.scratch.outs[int64_t{pair} * p.down.rows + out_row] =
              choice.weight[pair % top_k] * (total[0][n] + bias[0]);
        }
      }
      for (int part = 0; part < kWeightParts; ++part) total[part][n] = 0;
    }
  });
}

constexpr int kAddThreads = 128;

/// x += the choices' results, in their order.
__global__ void __launch_bounds__(kAddThreads) add_kernel(MoeSmallBatch p) {
  let_next_kernel_start();
  wait_for_previous_kernels();
  const int i = blockIdx.x * kAddThreads + threadIdx.x, row = blockIdx.y, hidden = p.down.rows;
  if (i >= hidden) return;
  const float* const outs = p.scratch.outs + int64_t{row} * p.router.top_k * hidden + i;
  float sum = 0;
#pragma unroll 4
  for (int slot = 0; slot < p.router.top_k; ++slot) sum += __ldcg(outs + slot * hidden);
  p.x[int64_t{row} * hidden + i] += sum;
}

template <int kWeightParts>
int bytes_for(const MoeSmallBatch& p) {
  const PackedWeight& w = kWeightParts == 2 ? p.gate : p.down;
  return RowsLayout<kWeightParts>(w.pairs(), operands_of(kWeightParts, p.rows, p.router.top_k),
                                  p.rows)
      .bytes;
}

template <int kWeightParts>
void launch_rows(const MoeSmallBatch& p, CUstream_st* stream) {
  const int blocks = blocks_for(multiprocessors(), p.rows, p.router.top_k);
  launch(rows_kernel<kWeightParts>, p, dim3(blocks), kBlockThreads, bytes_for<kWeightParts>(p),
         stream);
}

}  // namespace

bool moe_small_batch_fits(const MoeSmallBatch& p) {
  constexpr int kMostBytes = 227 * 1024;
  return bytes_for<2>(p) <= kMostBytes && bytes_for<1>(p) <= kMostBytes;
}

void moe_small_batch(const MoeSmallBatch& p, CUstream_st* stream) {
  launch(p.router.experts <= 32 ? route_kernel<1> : route_kernel<kMaxExperts / 32>, p, dim3(p.rows),
         kBlockThreads, 0, stream);
  launch_rows<2>(p, stream);
  launch_rows<1>(p, stream);
  launch(add_kernel, p, dim3((p.down.rows + kAddThreads - 1) / kAddThreads, p.rows), kAddThreads, 0,
         stream);
}

}  // namespace mxgpt::cuda::sm90
