// Packed weight layout of the sm90 kernels, made from a file's blocks at load. Decode and prefill
// share one copy, in the order of the tensor cores' left operand in a warp's registers (m16n8k16,
// m16n8k32 and wgmma alike).
//
// A matrix is divided into tiles of 8 output rows, and a tile into chunks, each contiguous and
// fetched by one bulk copy. Rows and columns are padded with zeros to whole tiles and chunks. A
// chunk is chunk_pairs() pairs of blocks of 32 columns: first its elements, pair by pair, then its
// scales, [pair][row][block of the pair].
//
// Within a pair (64 columns), lane 4 r + t of a warp has columns 8t … 8t+7 of both blocks of row r:
// Q8_0 [lane][block][8 bytes]; MXFP4 [lane][block][one word of eight nibbles, see nibble_bit()];
// BF16 [block][lane][8 elements].
#pragma once

#include <cstddef>
#include <cstdint>

namespace mxgpt::cuda::sm90 {

enum class WeightType : uint8_t { q8_0, mxfp4, bf16 };

/// Order of the matrix rows within the tiles.
enum class RowOrder : uint8_t {
  natural,
  /// Per head of 64 rows, tile j has rows 4j … 4j+3 and their RoPE partners 32 rows further on.
  rope_halves_64,
};

/// Matrix row at row `row` of the tiles.
constexpr int source_row(RowOrder order, int row) {
  if (order == RowOrder::natural) return row;
  return row / 64 * 64 + 4 * (row % 64 / 8) + row % 4 + (row % 8 >= 4 ? 32 : 0);
}

inline constexpr int kTileRows = 8;
inline constexpr int kPair = 64;   ///< columns
inline constexpr int kBlock = 32;  ///< columns per scale

constexpr int pair_bytes(WeightType kind) {
  return kind == WeightType::q8_0 ? 512 + 32 : kind == WeightType::mxfp4 ? 256 + 16 : 1024;
}
constexpr int element_bytes(WeightType kind) {  ///< bytes of a pair, without scales
  return kind == WeightType::q8_0 ? 512 : kind == WeightType::mxfp4 ? 256 : 1024;
}

/// Depends on the format alone, so that sums by chunks have the same order in every kernel and for
/// every batch.
constexpr int chunk_pairs(WeightType kind) {
  return kind == WeightType::bf16 ? 3 : 5;
}

constexpr int align_up(int n, int to) {
  return (n + to - 1) / to * to;
}

struct PackedWeight {
  const uint8_t* data = nullptr;
  WeightType kind = WeightType::q8_0;
  int rows = 0;  ///< per slice
  int k = 0;

  constexpr int tiles() const { return (rows + kTileRows - 1) / kTileRows; }
  constexpr int chunks() const {
    return (k + chunk_pairs(kind) * kPair - 1) / (chunk_pairs(kind) * kPair);
  }
  constexpr int pairs() const { return chunks() * chunk_pairs(kind); }
  constexpr size_t tile_bytes() const { return size_t{1} * pairs() * pair_bytes(kind); }
  constexpr size_t slice_bytes() const { return tiles() * tile_bytes(); }
};

/// Distance in bytes between planes of activations: bfloat16, or int8 for Q8_0 weights. 64 more
/// than a multiple of 128, which avoids bank conflicts.
constexpr int plane_stride(WeightType kind, int pairs) {
  return align_up(pairs * kPair * (kind == WeightType::q8_0 ? 1 : 2), 128) + 64;
}

/// Bit of an MXFP4 word that has bit `bit` (3: sign) of element `element`. Chosen so that four
/// rotations and one mask turn elements 2i and 2i+1 into bfloat16 without exponent bias:
/// sign to bit 15, magnitude to bits 8-6 of each half. The sets {15,8,7,6}, rotated by 0, 10 and 4,
/// leave bits 4, 5, 13 and 14 of each half; two more rotations (6 for the sign and the upper bits,
/// 30 for the lowest) fetch the fourth pair from these.
constexpr int nibble_bit(int element, int bit) {
  const int target = (bit == 3 ? 15 : 6 + bit) + 16 * (element & 1);
  const int pair = element >> 1;
  const int rotation = pair == 0 ? 0 : pair == 1 ? 10 : pair == 2 ? 4 : bit == 0 ? 30 : 6;
  return (target + rotation) & 31;
}

constexpr bool nibble_bits_are_distinct() {
  uint32_t seen = 0;
  for (int e = 0; e < 8; ++e)
    for (int b = 0; b < 4; ++b) seen |= 1u << nibble_bit(e, b);
  return seen == 0xffffffffu;
}
static_assert(nibble_bits_are_distinct());

}  // namespace mxgpt::cuda::sm90
