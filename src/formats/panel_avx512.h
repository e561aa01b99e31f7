// Panels: a piece of 32 rows of a weight, unpacked so that a lane of a register is a row, and their
// products with any number of tokens. What a panel is made of differs from format to format
// (avx512.h); what is done with it does not, and is compiled once.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "formats/format.h"

namespace mxgpt::avx512 {

inline constexpr int kLanes = 16;  ///< rows of one register
inline constexpr int kPanelRows = 2 * kLanes;
inline constexpr int kPanelElements = 256;  ///< along k; a panel stays in the first cache

/// Weights as integers. Of a group, dword i holds the elements that dword i of a group of
/// activations holds (q16_place).
struct alignas(64) Panel {
  int32_t pairs[kPanelElements / 2][kPanelRows];
  float scale[kPanelElements / 16][kPanelRows];  ///< [group · kScales + part of the group]
  float offset[kPanelElements / 16][kPanelRows];
};

struct alignas(64) FloatPanel {
  float w[kPanelElements][kPanelRows];
};

/// Where in a weight a panel lies.
struct PanelPlace {
  int64_t row;
  int rows;  ///< at most kPanelRows
  int64_t element;
  int elements;  ///< at most kPanelElements
};

/// Adds the panel's products with 16-bit activations to p.out (at element 0: sets it), for all
/// tokens. The formats' kScales and kOffset say what the panel holds.
void multiply(const Panel& panel, const PanelPlace& at, int scales, bool offset,
              const MatmulTile& p);

/// The same with activations in f32.
void multiply(const FloatPanel& panel, const PanelPlace& at, const MatmulTile& p);

/// The values that dequantize gives.
void to_floats(const Panel& panel, int elements, int scales, bool offset, FloatPanel& out);

}  // namespace mxgpt::avx512
