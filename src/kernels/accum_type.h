// The precision in which matrix products accumulate.
#pragma once

#include <cstdint>

namespace mxgpt::kernels {

/// Type of the running sum of a dot product. f16 reproduces tensor cores with f16 accumulators:
/// after each group of 32 elements along k (the last group of a row may be shorter) the sum is
/// rounded to f16, ties to even. Within a group, products and sums are f32. A sum beyond 65504
/// becomes infinity, and stays infinite or becomes NaN.
enum class AccumType : uint8_t { f32, f16 };
inline constexpr int kAccumTypeCount = 2;

}  // namespace mxgpt::kernels
