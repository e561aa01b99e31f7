// The CPU backend's kernels besides the matrix tiles of formats/: written once with compiler
// vectors in kernels_impl.h and built for each instruction set.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/cpu/attention_state.h"
#include "backend/ops.h"
#include "kernels/cpu/activations.h"
#include "kernels/cpu/isa.h"
#include "quant/format.h"

namespace mxgpt::cpu {

/// Consecutive rows of one sequence, their query heads of one KV head, over a range of positions.
struct AttentionTile {
  const float* q;    ///< head h of row r at q + r · q_stride + h · head_dim; not yet scaled
  int64_t q_stride;  ///< floats
  int rows, group, head_dim;
  float scale;            ///< on scores
  quant::Format format;   ///< of keys and values: f32, f16, bf16 or q8_0
  const std::byte* keys;  ///< of the layer, at this KV head: page p starts at keys + p * page_bytes
  const std::byte* values;   ///< (kv_page.h has what is in a page)
  int64_t page_bytes;        ///< from a page to the next, all KV heads included
  const int32_t* pages;      ///< by position / kPageTokens
  int64_t position;          ///< of the first row; each sees itself and what is before
  int64_t window;            ///< keys that a row sees, itself included; 0 means all
  int64_t kv_begin, kv_end;  ///< positions of this part, the first of them a page's first
};

struct CpuKernels {
  /// Q16Activations of one row: of each group of 32, scale = max|x| / kQ16Most, or, where `bytes`
  /// is given, the maximum of the third largest quad / 127 if that is more, and twice that where
  /// low bytes would exceed kMostLow; q = round(x / scale);
  /// sum[i] = scale · Σ q of 16, total[i] = Σ q. k % 32 == 0.
  void (*quantize_int16)(const float* x, int64_t k, int16_t* q, float* scale, float* sum,
                         int32_t* total, kernels::OutlierSplitGroup* bytes);
  /// `out` may be `x`.
  void (*norm)(const backend::Norm& norm, const float* x, int64_t n, float* out);
  /// In place on one head. cos and sin: [head_dim / 2].
  void (*apply_rope)(backend::RopeStyle pairs, float* head, const float* cos, const float* sin,
                     int64_t head_dim);
  /// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
  void (*activate)(const backend::Activation& activation, float* gate, const float* up, int64_t n);
  /// y += weight · x
  void (*add_scaled)(const float* x, float weight, int64_t n, float* y);
  /// `n` numbers as FormatTraits::quantize has them, for the formats of a KV cache.
  void (*quantize_kv)(quant::Format format, const float* x, int64_t n, std::byte* out);
  /// The states of a block's queries, row by row, over its positions.
  void (*attention_tile)(const AttentionTile& block, const AttentionStates& states);
  /// Adds what comes later in the sequence.
  void (*merge_states)(const AttentionStates& later, int queries, const AttentionStates& into);
  /// Weighted means, with `sinks` [group], or null, among the weights. out: as AttendBlock has q.
  void (*normalize_states)(const AttentionStates& states, int queries, int group, int head_dim,
                           const float* sinks, float* out, int64_t out_stride);
};

/// Null where the build lacks the instruction set; whether the processor has it is the caller's to
/// know.
const CpuKernels* cpu_kernels(kernels::Isa isa);
/// Those of the instruction set that isa() chose.
inline const CpuKernels& cpu_kernels() {
  return *cpu_kernels(kernels::isa());
}

/// Most queries of a block, hence query heads that can share a KV head, and the largest head: stack
/// buffers have these sizes.
inline constexpr int kMaxQueries = 64;
inline constexpr int kMaxHeadDim = 512;

}  // namespace mxgpt::cpu
