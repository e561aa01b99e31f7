// Panels: a piece of 32 rows of a weight, unpacked so that a lane of a register is a row, and their
// products with any number of tokens. What a panel is made of differs from format to format
// (avx512.h); what is done with it does not, and is compiled once.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "quant/format.h"

namespace mxgpt::kernels::avx512 {

inline constexpr int kLanes = 16;  ///< rows of one register
inline constexpr int kPanelRows = 2 * kLanes;
inline constexpr int kPanelK = 256;  ///< along k; a panel stays in the first cache

/// Weights as integers. Of a group, dword i holds the elements that dword i of a group of
/// activations holds (interleaved_index).
struct alignas(64) PackedPanel {
  int32_t pairs[kPanelK / 2][kPanelRows];
  float scale[kPanelK / 16][kPanelRows];  ///< [group · kScales + part of the group]
  float offset[kPanelK / 16][kPanelRows];
};

struct alignas(64) PackedPanelF32 {
  float w[kPanelK][kPanelRows];
};

/// Where in a weight a panel lies.
struct PanelCoords {
  int64_t row;
  int rows;  ///< at most kPanelRows
  int64_t element;
  int elements;  ///< at most kPanelElements
};

/// Adds the panel's products with 16-bit activations to p.out (at element 0: sets it), for all
/// tokens. The formats' kScales and kHasOffset say what the panel holds.
void multiply_panel(const PackedPanel& panel, const PanelCoords& at, int scales, bool offset,
                    const quant::GemmArgs& p);

/// The same with activations in f32.
void multiply_panel(const PackedPanelF32& panel, const PanelCoords& at, const quant::GemmArgs& p);

/// The values that dequantize gives.
void dequantize_panel(const PackedPanel& panel, int elements, int scales, bool offset,
                      PackedPanelF32& out);

}  // namespace mxgpt::kernels::avx512
