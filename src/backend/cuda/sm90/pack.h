// Packs blocks in file order, [slices][rows][k] in device memory, into the order of layout.h.
#pragma once

#include "backend/cuda/sm90/layout.h"

struct CUstream_st;

namespace mxgpt::cuda::sm90 {

struct Pack {
  WeightType kind;
  RowOrder order = RowOrder::natural;
  int64_t slices = 1;
  int rows, k;  ///< k is a multiple of 32 where elements share scales
  const std::byte* blocks;
  uint8_t* packed;  ///< packed_bytes(…), 16-byte aligned
};

constexpr size_t packed_bytes(WeightType kind, int64_t slices, int rows, int k) {
  return slices * PackedWeight{nullptr, kind, rows, k}.slice_bytes();
}

void pack(const Pack& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::sm90
