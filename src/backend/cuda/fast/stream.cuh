// How the decode kernels read weights: every warp streams its own chunks through a ring of stages
// in shared memory by bulk copies, and multiplies them from there. Since a ring is filled before
// the kernel waits for its predecessor, memory never idles between kernels.
//
// Matrix-vector products on tensor cores: a tile has 8 rows, an operand 16. The lower 8 take the
// second block of a pair, so that 8 rows are the unit of work that blocks share out. The columns of
// the right operand are, for two rows of the batch: 4 · row + 2 · block of the pair + part, where
// an activation is the sum of two parts (hi, lo). Products of a block with the other block's
// columns are wasted; the tensor cores have time for them.
#pragma once

#include "backend/cuda/fast/device.cuh"

namespace mxgpt::cuda::fast {

inline constexpr int kWarps = 16;
inline constexpr int kThreads = 32 * kWarps;

__host__ __device__ constexpr int align_up(int n, int to) { return (n + to - 1) / to * to; }

/// Activations in shared memory as the right operand: planes [row][hi, lo] of k elements, bfloat16
/// or, against Q8_0, int8 with a scale for each block: x = scale · (256 hi + lo).
struct Operand {
  uint8_t* planes;
  float* scales;  ///< [row][2 · pairs]
  int stride;     ///< bytes from plane to plane; 64 more than a multiple of 128: no bank conflicts
  int pairs;

  __host__ __device__ static constexpr int element_bytes(Kind kind) {
    return kind == Kind::q8_0 ? 1 : 2;
  }
  __host__ __device__ static constexpr int stride_of(Kind kind, int pairs) {
    return align_up(pairs * kPair * element_bytes(kind), 128) + 64;
  }
  __device__ const uint8_t* plane(int row, int part) const {
    return planes + (2 * row + part) * stride;
  }
};

/// A warp's ring. `kParts` tiles are streamed side by side (gate and up).
template <Kind kind, int kParts, int kStages>
class Ring {
 public:
  static constexpr int kPartBytes = chunk_pairs(kind) * pair_bytes(kind);
  static constexpr int kStageBytes = kParts * kPartBytes;
  static constexpr int kBytes = kStages * kStageBytes;  ///< of one warp

  /// This warp's share of the chunks of `tiles` tiles that the block's warps share out.
  __device__ Ring(uint8_t* all_stages, Barrier* all_barriers, int pairs, int tiles)
      : Ring(all_stages, all_barriers, pairs) {
    const int warp = threadIdx.x / 32, count = tiles * chunks_;
    take(count * warp / kWarps, count * (warp + 1) / kWarps);
  }
  /// Chunks [first, last).
  __device__ Ring(uint8_t* all_stages, Barrier* all_barriers, int pairs, int first, int last)
      : Ring(all_stages, all_barriers, pairs) {
    take(first, last);
  }
  __device__ void init_barriers() {
    if (threadIdx.x % 32 == 0) {
      for (int i = 0; i < kStages; ++i) full_[i].init(1);
      publish_barriers();
    }
    __syncwarp();
  }
  __device__ int chunks() const { return chunks_; }
  __device__ int pairs_in(int chunk) const {
    return min(chunk_pairs(kind), pairs_ - chunk * chunk_pairs(kind));
  }
  /// `source(tile, part)`: where that tile lies.
  template <class Source>
  __device__ void start(const Source& source) {
    for (int slot = 0; slot < kStages; ++slot) fetch(slot, source);
  }
  /// `consume(stage, tile, chunk)`, in order.
  template <class Source, class Consume>
  __device__ void run(const Source& source, const Consume& consume) {
    At at = first_;
    int slot = 0;
    uint32_t phase = 0;
    for (int left = count_; left > 0; --left) {
      full_[slot].wait(phase);
      consume(stages_ + slot * kStageBytes, at.tile, at.chunk);
      __syncwarp();
      fetch(slot, source);
      at.advance(chunks_);
      if (++slot == kStages) slot = 0, phase ^= 1;
    }
  }

 private:
  struct At {
    int tile, chunk;
    __device__ void advance(int chunks) {
      if (++chunk == chunks) chunk = 0, ++tile;
    }
  };

  __device__ Ring(uint8_t* all_stages, Barrier* all_barriers, int pairs)
      : pairs_(pairs), chunks_((pairs + chunk_pairs(kind) - 1) / chunk_pairs(kind)) {
    const int warp = threadIdx.x / 32;
    stages_ = all_stages + warp * kBytes;
    full_ = all_barriers + warp * kStages;
    policy_ = evict_first_policy();
  }
  __device__ void take(int first, int last) {
    count_ = to_fetch_ = last - first;
    first_ = next_ = {first / chunks_, first % chunks_};
  }
  /// The next chunk, if one is left.
  template <class Source>
  __device__ void fetch(int slot, const Source& source) {
    if (to_fetch_ == 0) return;
    --to_fetch_;
    if (threadIdx.x % 32 == 0) {
      const int bytes = pairs_in(next_.chunk) * pair_bytes(kind);
      full_[slot].expect(kParts * bytes);
      for (int part = 0; part < kParts; ++part)
        bulk_copy(stages_ + slot * kStageBytes + part * kPartBytes,
                  source(next_.tile, part) + next_.chunk * kPartBytes, bytes, full_[slot],
                  policy_);
    }
    next_.advance(chunks_);
  }

  uint8_t* stages_;
  Barrier* full_;  ///< [kStages]
  int pairs_;      ///< of a tile
  int chunks_;     ///< of a tile
  int count_, to_fetch_;
  At first_, next_;
  uint64_t policy_;
};

/// One pair of a tile times the operand: see multiply.
template <Kind kind, int kColumns>
__device__ inline void multiply_pair(const uint8_t* chunk, const uint8_t* scales, int j, int pair,
                                     const Operand& x, int rows, float sum[kColumns],
                                     float total[kColumns][4]) {
  const int lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  const int column_row = r / 4, column_block = r / 2 % 2, column_part = r % 2;
  const bool odd = t % 2;
  if constexpr (kind == Kind::q8_0) {
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
    if constexpr (kind == Kind::mxfp4) {
      const uint2 a = *reinterpret_cast<const uint2*>(chunk + j * 256 + lane * 8);
      unpack_e2m1(a.x, even_block);
      unpack_e2m1(a.y, odd_block);
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
      if constexpr (kind == Kind::mxfp4) {
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

/// A chunk of one tile times the operand. sum[n] of lane 4 r + t: row r of the tile, row 2 n + t / 2
/// of the batch.
template <Kind kind, int kColumns>
__device__ inline void multiply(const uint8_t* chunk, int pairs, int first_pair, const Operand& x,
                                int rows, float sum[kColumns]) {
  const uint8_t* const scales = chunk + pairs * element_bytes(kind);
  float total[kColumns][4];  // of BF16, which has no scales, through the chunk
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    sum[n] = 0;
    for (int i = 0; i < 4; ++i) total[n][i] = 0;
  }
  if (pairs == chunk_pairs(kind)) {
    // Nothing between the pairs but sums, so that their latencies overlap.
#pragma unroll
    for (int j = 0; j < chunk_pairs(kind); ++j)
      multiply_pair<kind, kColumns>(chunk, scales, j, first_pair + j, x, rows, sum, total);
  } else {
#pragma unroll 1
    for (int j = 0; j < pairs; ++j)
      multiply_pair<kind, kColumns>(chunk, scales, j, first_pair + j, x, rows, sum, total);
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    if constexpr (kind == Kind::bf16)
      sum[n] = threadIdx.x % 2 ? total[n][2] + total[n][3] : total[n][0] + total[n][1];
    sum[n] += __shfl_xor_sync(0xffffffff, sum[n], 1);
  }
}

/// Four consecutive floats a thread, kRegisters times, of one row.
struct RowRegisters {
  static constexpr int kRegisters = 2;
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
template <Kind kind>
__device__ inline void write_four(const Operand& x, int row, int i, float4 v) {
  uint8_t* const hi = x.planes + 2 * row * x.stride;
  uint8_t* const lo = hi + x.stride;
  if constexpr (kind == Kind::q8_0) {
    float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
    // What is not finite makes the block's scale, and so the result, NaN or infinite.
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
    const Split a = split_bf16(v.x, v.y), b = split_bf16(v.z, v.w);
    *reinterpret_cast<uint2*>(hi + 2 * i) = {a.hi, b.hi};
    *reinterpret_cast<uint2*>(lo + 2 * i) = {a.lo, b.lo};
  }
}

/// Writes in · weight (where there is one) as row `row` of an operand, and returns this thread's
/// share of Σ in². `x` and `w` hold the first registers of both.
template <Kind kind>
__device__ inline float write_operand(const Operand& operand, int row, RowRegisters x,
                                      RowRegisters w, const float* in, const float* weight, int k) {
  const int padded = operand.pairs * kPair;
  float square = 0;
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

}  // namespace mxgpt::cuda::fast
