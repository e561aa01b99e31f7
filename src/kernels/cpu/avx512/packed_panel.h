// Packed panels (NR = 32 rows by KC = 256 elements of a weight, lane = row) and their products with
// any number of tokens. Unpacking depends on the format (unpack.h); the products do not, and are
// compiled once.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace mxgpt::kernels::avx512 {

inline constexpr int kLanes = 16;  ///< rows per register
inline constexpr int kPanelRows = 2 * kLanes;
inline constexpr int kPanelK = 256;  ///< KC; a panel stays in the L1 cache

/// Weights as 16-bit integers. Dword i of a group holds the same two elements as dword i of a group
/// of activations (interleaved_index).
struct alignas(64) PackedPanel {
  int32_t pairs[kPanelK / 2][kPanelRows];
  float scale[kPanelK / 16][kPanelRows];  ///< [group · kScales + s]
  float offset[kPanelK / 16][kPanelRows];
};

struct alignas(64) PackedPanelF32 {
  float w[kPanelK][kPanelRows];
};

/// Position of a panel within a weight.
struct PanelCoords {
  int64_t row;
  int rows;  ///< at most kPanelRows
  int64_t element;
  int elements;  ///< at most kPanelK
};

/// Adds the panel's products with the 16-bit activations of all tokens to p.out; at element 0,
/// overwrites p.out. `scales` and `offset` are the format's kScales and kHasOffset.
void multiply_panel(const PackedPanel& panel, const PanelCoords& at, int scales, bool offset,
                    const GemmArgs& p);

/// The same for f32 activations.
void multiply_panel(const PackedPanelF32& panel, const PanelCoords& at, const GemmArgs& p);

/// Converts a panel to the values that dequantize() gives.
void dequantize_panel(const PackedPanel& panel, int elements, int scales, bool offset,
                      PackedPanelF32& out);

}  // namespace mxgpt::kernels::avx512
