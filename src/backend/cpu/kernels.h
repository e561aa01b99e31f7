// The CPU backend's kernels besides the matrix tiles of formats/: written once with compiler
// vectors in kernels_impl.h and built for each instruction set.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/ops.h"
#include "formats/format.h"

namespace mxgpt::cpu {

/// Query heads of one row that share a KV head, over pages of that head.
struct AttendHeads {
  const float* q;  ///< [group, head_dim], not yet scaled
  int group, head_dim;
  float scale;            ///< on scores
  Format format;          ///< of keys and values: f32, f16 or bf16
  const std::byte* keys;  ///< of the layer, at this KV head: page p starts at keys + p * page_bytes
  const std::byte* values;
  int64_t page_bytes;    ///< from a page to the next, all KV heads included
  const int32_t* pages;  ///< by position / kPageTokens
  int64_t first, last;   ///< positions seen, both included
  const float* sinks;    ///< [group] or null
  float* out;            ///< [group, head_dim]
};

struct CpuKernels {
  /// Q16Activations of one row: scale = max|x| / 32767 of each group of 32, q = round(x / scale);
  /// sum[i] = scale · Σ q of 16. k % 32 == 0.
  void (*quantize_q16)(const float* x, int64_t k, int16_t* q, float* scale, float* sum);
  /// `out` may be `x`.
  void (*norm)(const Norm& norm, const float* x, int64_t n, float* out);
  /// In place on one head. cos and sin: [head_dim / 2].
  void (*rotate)(RopePairs pairs, float* head, const float* cos, const float* sin,
                 int64_t head_dim);
  /// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
  void (*activate)(const Activation& activation, float* gate, const float* up, int64_t n);
  /// y += weight · x
  void (*add_scaled)(const float* x, float weight, int64_t n, float* y);
  void (*attend)(const AttendHeads&);
};

/// Null where the build lacks the instruction set; whether the processor has it is the caller's to
/// know.
const CpuKernels* cpu_kernels(Isa isa);
/// Those of the instruction set that isa() chose.
inline const CpuKernels& cpu_kernels() {
  return *cpu_kernels(isa());
}

/// Most query heads that can share a KV head, and the largest head: stack buffers have these sizes.
inline constexpr int kMaxGroup = 64;
inline constexpr int kMaxHeadDim = 512;

}  // namespace mxgpt::cpu
