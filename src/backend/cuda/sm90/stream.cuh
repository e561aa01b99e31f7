// Weight streaming of the decode kernels. Each consumer warp multiplies its own chunks, which pass
// through its ring of stages in shared memory. One producer warp issues the bulk copies of all
// rings, one lane per ring, because issuing blocks while the copy engine is busy. It starts before
// the kernel waits for its predecessor, so that memory does not idle between kernels.
//
// Matrix-vector products on tensor cores: a tile has 8 rows, an mma operand 16. The other 8 rows
// take the second block of a pair, so blocks distribute work in units of 8 rows. The columns of the
// right operand are, for two rows of the batch, 4 · row + 2 · block of the pair + part, where an
// activation is the sum of two bfloat16 parts (hi, lo). Products of a block with the other block's
// columns are discarded; the tensor cores have time for them.
#pragma once

#include "backend/cuda/sm90/ptx.cuh"

namespace mxgpt::cuda::sm90 {

inline constexpr int kWarps = 12;  ///< consumer warps
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kBlockThreads = kThreads + 32;

/// Minimum dynamic shared memory: forces one block per SM. Otherwise, while the previous kernel
/// drains, two blocks land on one SM and double the latency.
inline constexpr int kAloneBytes = 120 * 1024;

/// Whether this thread is in the producer warp.
__device__ inline bool fetches() {
  return threadIdx.x >= kThreads;
}
/// Ring of this thread: its warp's (consumer) or its lane's (producer).
__device__ inline int ring_index() {
  return fetches() ? threadIdx.x % 32 : threadIdx.x / 32;
}

/// A block's range of the units of work.
struct Share {
  int first, count;
  __host__ __device__ Share(unsigned pieces, unsigned block, unsigned blocks) {
    first = static_cast<int>(pieces * block / blocks);
    count = static_cast<int>(pieces * (block + 1) / blocks) - first;
  }
};
__host__ __device__ constexpr int largest_share(int pieces, int blocks) {
  return (pieces + blocks - 1) / blocks;
}

/// Barriers of the warps that multiply, and of all, where the warp that fetches only arrives.
__device__ inline void meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}
__device__ inline void meet_all() {
  asm volatile("bar.sync 2, %0;" ::"n"(kBlockThreads) : "memory");
}
__device__ inline void arrive_for_all() {
  asm volatile("bar.arrive 2, %0;" ::"n"(kBlockThreads) : "memory");
}

/// Against MXFP4 activations are larger by this factor, and weights smaller by 2^126 than they are:
/// so decoding is a rotation and a mask. Products stay far from both ends of what a float can hold
/// for activations below 2^31.
inline constexpr float kScaled = 0x1p96f, kBackFromScaled = 0x1p30f;

/// Activations in shared memory as the right operand: planes [row][hi, lo] of k elements, bfloat16
/// or, against Q8_0, int8 with a scale for each block: x = scale · (256 hi + lo).
struct Operand {
  uint8_t* planes;
  float* scales;  ///< [row][2 · pairs]
  int stride;     ///< bytes from plane to plane
  int pairs;

  __host__ __device__ static constexpr int element_bytes(WeightType kind) {
    return kind == WeightType::q8_0 ? 1 : 2;
  }
  __host__ __device__ static constexpr int stride_of(WeightType kind, int pairs) {
    return plane_stride(kind, pairs);
  }
  __device__ const uint8_t* plane(int row, int part) const {
    return planes + (2 * row + part) * stride;
  }
};

/// A ring, as its warp and the lane that fetches for it see it. `kParts` tiles are streamed side by
/// side (gate and up).
template <WeightType kind, int kWeightParts, int kStages>
class Ring {
 public:
  static constexpr int kPartBytes = chunk_pairs(kind) * pair_bytes(kind);
  static constexpr int kStageBytes = kWeightParts * kPartBytes;
  static constexpr int kBytes = kWarps * kStages * kStageBytes;  ///< of all rings of a block
  static constexpr int kBarrierBytes = 2 * kWarps * kStages * 8;

  /// Chunks [first, last), counted through all tiles.
  __device__ Ring(uint8_t* stages, uint8_t* barriers, int chunks, int first, int last)
      : chunks_(chunks) {
    const int ring = ring_index();
    stages_ = stages + ring * kStages * kStageBytes;
    full_ = reinterpret_cast<Barrier*>(barriers) + ring * kStages;
    empty_ = full_ + kWarps * kStages;
    count_ = ring < kWarps ? last - first : 0;
    tile_ = first / chunks_, chunk_ = first % chunks_;
  }
  /// Its share of the chunks of `tiles` tiles.
  __device__ Ring(uint8_t* stages, uint8_t* barriers, int chunks, int tiles)
      : Ring(stages, barriers, chunks, tiles * chunks * ring_index() / kWarps,
             tiles * chunks * (ring_index() + 1) / kWarps) {}

  __device__ int chunks() const { return chunks_; }
  /// By the warp that fetches, first of all. The others may use the ring once they met all.
  __device__ void init_barriers() {
    if (threadIdx.x % 32 < kWarps) {
      for (int i = 0; i < kStages; ++i) full_[i].init(1), empty_[i].init(1);
      publish_barriers();
    }
    __syncwarp();
  }
  /// By the warp that fetches. `source(tile, part)`: where that tile lies.
  template <class Source>
  __device__ void fetch(const Source& source) {
    const uint64_t policy = evict_first_policy();
    int slot = 0;
    uint32_t phase = 1;  // of a barrier that nobody has arrived at: the ring is empty
#pragma unroll 1
    for (; count_ > 0; --count_) {
      empty_[slot].wait(phase);
      full_[slot].expect(kStageBytes);
      for (int part = 0; part < kWeightParts; ++part)
        bulk_copy(stages_ + slot * kStageBytes + part * kPartBytes,
                  source(tile_, part) + chunk_ * kPartBytes, kPartBytes, full_[slot], policy);
      advance(slot, phase);
    }
  }
  /// By the others: `consume(stage, tile, chunk)`, in order.
  template <class Consume>
  __device__ void run(const Consume& consume) {
    int slot = 0;
    uint32_t phase = 0;
#pragma unroll 1
    for (; count_ > 0; --count_) {
      full_[slot].wait(phase);
      consume(stages_ + slot * kStageBytes, tile_, chunk_);
      __syncwarp();
      if (threadIdx.x % 32 == 0) empty_[slot].arrive();
      advance(slot, phase);
    }
  }

 private:
  __device__ void advance(int& slot, uint32_t& phase) {
    if (++chunk_ == chunks_) chunk_ = 0, ++tile_;
    if (++slot == kStages) slot = 0, phase ^= 1;
  }

  uint8_t* stages_;
  Barrier *full_, *empty_;  ///< [kStages]
  int chunks_;              ///< of a tile
  int count_;               ///< chunks left
  int tile_, chunk_;
};

/// One pair of a tile times the operand: see multiply.
template <WeightType kind, int kColumns, class X>
__device__ inline void multiply_pair(const uint8_t* chunk, const uint8_t* scales, int j, int pair,
                                     const X& x, int rows, float sum[kColumns],
                                     float total[kColumns][4]) {
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  const int column_row = r / 4, column_block = r / 2 % 2, column_part = r % 2;
  const bool odd = t % 2;
  if constexpr (kind == WeightType::q8_0) {
    const uint4 a = *reinterpret_cast<const uint4*>(chunk + j * 512 + lane * 16);
    const float scale =
        __half2float(reinterpret_cast<const __half*>(scales)[(j * 8 + r) * 2 + odd]);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      uint2 b{};
      if (2 * n + column_row < rows)
        b = *reinterpret_cast<const uint2*>(x.plane(2 * n + column_row, column_part) + pair * 64 +
                                            column_block * 32 + 8 * t);
      int d[4] = {};
      mma_s8(d, a.x, a.z, a.y, a.w, b.x, b.y);
      const int product = odd ? d[2] * 256 + d[3] : d[0] * 256 + d[1];
      const int row = min(2 * n + t / 2, rows - 1);
      sum[n] = fmaf(static_cast<float>(product),
                    scale * x.scales[row * 2 * x.pairs + 2 * pair + odd], sum[n]);
    }
  } else {
    uint32_t even_block[4], odd_block[4];  // elements 0-1, 2-3, 4-5, 6-7
    float scale = 1;
    if constexpr (kind == WeightType::mxfp4) {
      const uint2 a = *reinterpret_cast<const uint2*>(chunk + j * 256 + lane * 8);
      spread_e2m1(a.x, even_block);
      spread_e2m1(a.y, odd_block);
      scale = e8m0(scales[(j * 8 + r) * 2 + odd]);
    } else {
      const uint8_t* at = chunk + j * 1024 + lane * 16;
      *reinterpret_cast<uint4*>(even_block) = *reinterpret_cast<const uint4*>(at);
      *reinterpret_cast<uint4*>(odd_block) = *reinterpret_cast<const uint4*>(at + 512);
    }
    const uint32_t a0[4] = {even_block[0], odd_block[0], even_block[1], odd_block[1]};
    const uint32_t a1[4] = {even_block[2], odd_block[2], even_block[3], odd_block[3]};
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      uint4 b{};
      if (2 * n + column_row < rows)
        b = *reinterpret_cast<const uint4*>(x.plane(2 * n + column_row, column_part) + pair * 128 +
                                            column_block * 64 + 16 * t);
      if constexpr (kind == WeightType::mxfp4) {
        float d[4] = {};
        mma_bf16(d, a0, b.x, b.y);
        mma_bf16(d, a1, b.z, b.w);
        sum[n] = fmaf(odd ? d[2] + d[3] : d[0] + d[1], scale, sum[n]);
      } else {
        mma_bf16(total[n], a0, b.x, b.y);
        mma_bf16(total[n], a1, b.z, b.w);
      }
    }
  }
}

/// Chunk `number` of a tile times the operand. sum[n] of lane 4 r + t: row r of the tile, row
/// 2 n + t / 2 of the batch. X: an Operand, or what has planes like one.
template <WeightType kind, int kColumns, class X>
__device__ inline void multiply(const uint8_t* chunk, int number, const X& x, int rows,
                                float sum[kColumns]) {
  const uint8_t* const scales = chunk + chunk_pairs(kind) * element_bytes(kind);
  float total[kColumns][4];  // of BF16, which has no scales, through the chunk
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    sum[n] = 0;
    for (int i = 0; i < 4; ++i) total[n][i] = 0;
  }
  // Nothing between the pairs but sums, so that their latencies overlap.
#pragma unroll
  for (int j = 0; j < chunk_pairs(kind); ++j)
    multiply_pair<kind, kColumns>(chunk, scales, j, number * chunk_pairs(kind) + j, x, rows, sum,
                                  total);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    if constexpr (kind == WeightType::mxfp4) sum[n] *= kBackFromScaled;
    if constexpr (kind == WeightType::bf16)
      sum[n] = threadIdx.x % 2 ? total[n][2] + total[n][3] : total[n][0] + total[n][1];
    sum[n] += __shfl_xor_sync(0xffffffff, sum[n], 1);
  }
}

/// Four consecutive floats a thread, kRegisters times, of one row.
struct RowRegisters {
  static constexpr int kRegisters = 3;
  static constexpr int kStep = 4 * kThreads;  ///< elements from one to the next
  float4 v[kRegisters];

  /// Elements from `first` on. All loads are on their way before one is used.
  __device__ void load(const float* row, int k, int first = 0) {
#pragma unroll
    for (int i = 0; i < kRegisters; ++i) {
      const int at = first + i * kStep + threadIdx.x * 4;
      v[i] = row && at < k ? *reinterpret_cast<const float4*>(row + at) : float4{};
    }
  }
};

/// Four elements of one plane, as part of a block of 32 held by eight neighbouring lanes, all of
/// which must be here.
template <WeightType kind>
__device__ inline void write_four(const Operand& x, int row, int i, float4 v) {
  uint8_t* const hi = x.planes + 2 * row * x.stride;
  uint8_t* const lo = hi + x.stride;
  if constexpr (kind == WeightType::q8_0) {
    float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
    // A non-finite activation makes the block's scale, and so the result, NaN or infinite.
    if (!(fabsf(v.x + v.y + v.z + v.w) < INFINITY)) largest = NAN;
    const unsigned group = 0xffu << (threadIdx.x % 32 & ~7);
    for (int step = 1; step < 8; step *= 2) {
      const float other = __shfl_xor_sync(group, largest, step);
      largest = largest > other || largest != largest ? largest : other;
    }
    constexpr float kLargest = 127 * 256;
    const float inverse = largest > 0 ? kLargest / largest : 0;
    const int q[4] = {__float2int_rn(v.x * inverse), __float2int_rn(v.y * inverse),
                      __float2int_rn(v.z * inverse), __float2int_rn(v.w * inverse)};
    uint32_t upper = 0, lower = 0;
    for (int e = 0; e < 4; ++e) {
      upper |= static_cast<uint32_t>((q[e] + 128) >> 8 & 0xff) << 8 * e;
      lower |= static_cast<uint32_t>(q[e] & 0xff) << 8 * e;
    }
    *reinterpret_cast<uint32_t*>(hi + i) = upper;
    *reinterpret_cast<uint32_t*>(lo + i) = lower;
    if (i % kBlock == 0) x.scales[row * 2 * x.pairs + i / kBlock] = largest / kLargest;
  } else {
    if constexpr (kind == WeightType::mxfp4)
      v = {v.x * kScaled, v.y * kScaled, v.z * kScaled, v.w * kScaled};
    const Split a = split_bf16(v.x, v.y), b = split_bf16(v.z, v.w);
    *reinterpret_cast<uint2*>(hi + 2 * i) = {a.hi, b.hi};
    *reinterpret_cast<uint2*>(lo + 2 * i) = {a.lo, b.lo};
  }
}

/// One element of an operand of `down`: planes of bfloat16 hi and lo, `stride` bytes apart.
__device__ inline void store_activated(uint8_t* planes, int stride, int element, float v) {
  auto* const plane = reinterpret_cast<__nv_bfloat16*>(planes);
  v *= kScaled;
  const __nv_bfloat16 hi = __float2bfloat16(v);
  plane[element] = hi;
  plane[stride / 2 + element] = __float2bfloat16(v - __bfloat162float(hi));
}

/// Writes in · weight (where there is one) as row `row` of an operand, and returns this thread's
/// share of Σ in². `x` and `w` hold the first registers of both.
template <WeightType kind>
__device__ inline float write_operand(const Operand& operand, int row, RowRegisters x,
                                      RowRegisters w, const float* in, const float* weight, int k) {
  const int padded = operand.pairs * kPair;
  float square = 0;
#pragma unroll 1
  for (int first = 0; first < padded; first += RowRegisters::kRegisters * RowRegisters::kStep) {
    if (first) {
      x.load(in, k, first);
      w.load(weight, k, first);
    }
#pragma unroll
    for (int i = 0; i < RowRegisters::kRegisters; ++i) {
      const int at = first + i * RowRegisters::kStep + threadIdx.x * 4;
      if (at >= padded) break;
      float4 v = x.v[i];
      square += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      if (weight) v = {v.x * w.v[i].x, v.y * w.v[i].y, v.z * w.v[i].z, v.w * w.v[i].w};
      write_four<kind>(operand, row, at, v);
    }
  }
  return square;
}

__device__ inline float warp_sum(float v) {
  for (int step = 16; step; step /= 2) v += __shfl_xor_sync(0xffffffff, v, step);
  return v;
}

}  // namespace mxgpt::cuda::sm90
