// CPU kernels other than GEMM (kernels/cpu): written once with compiler vectors in kernels_impl.h
// and compiled for each instruction set.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/cpu/attention_state.h"
#include "backend/ops.h"
#include "kernels/cpu/activations.h"
#include "kernels/cpu/isa.h"
#include "quant/format.h"

namespace mxgpt::cpu {

/// Consecutive rows of one sequence and their query heads of one KV head, over a range of
/// positions.
struct AttentionTile {
  const float* q;    ///< head h of row r at q + r · q_stride + h · head_dim; not yet scaled
  int64_t q_stride;  ///< floats
  int rows, group, head_dim;
  float scale;               ///< of scores
  quant::Format format;      ///< of keys and values: f32, f16, bf16 or q8_0
  const std::byte* keys;     ///< this KV head's: page p starts at keys + p * page_bytes
  const std::byte* values;   ///< likewise; kv_page.h defines the page layout
  int64_t page_bytes;        ///< distance between pages, with all KV heads
  const int32_t* pages;      ///< by position / kPageTokens
  int64_t position;          ///< of the first row; attention is causal
  int64_t window;            ///< keys visible to a row, including its own; 0 means all
  int64_t kv_begin, kv_end;  ///< positions to attend to; kv_begin starts a page
};

struct CpuKernels {
  /// Quantizes one row in groups of 32 (kernels/cpu/activations.h): q = round(x / scale), with
  /// sum[i] = scale · Σ q and total[i] = Σ q over 16 elements. scale = max|x| / the int16 range.
  /// With `bytes`, outlier-split int8 as well: scale is then at least the maximum of the third
  /// largest block of four / 127, and doubled if the sum of low bytes exceeds its limit. k % 32 ==
  /// 0.
  void (*quantize_int16)(const float* x, int64_t k, int16_t* q, float* scale, float* sum,
                         int32_t* total, kernels::OutlierSplitGroup* bytes);
  /// out = norm(x); `out` may be `x`.
  void (*norm)(const backend::Norm& norm, const float* x, int64_t n, float* out);
  /// In place on one head. cos and sin: [head_dim / 2].
  void (*apply_rope)(backend::RopeStyle pairs, float* head, const float* cos, const float* sin,
                     int64_t head_dim);
  /// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
  void (*activate)(const backend::Activation& activation, float* gate, const float* up, int64_t n);
  /// y += weight · x
  void (*add_scaled)(const float* x, float weight, int64_t n, float* y);
  /// Converts `n` numbers to a KV cache format, like FormatTraits::quantize.
  void (*quantize_kv)(quant::Format format, const float* x, int64_t n, std::byte* out);
  /// Computes the states of a tile's queries, row by row.
  void (*attention_tile)(const AttentionTile& block, const AttentionStates& states);
  /// Merges the states of a later range of positions.
  void (*merge_states)(const AttentionStates& later, int queries, const AttentionStates& into);
  /// out = acc / sum_exp, with `sinks` [group] added to the sum if not null. `out` is laid out like
  /// AttentionTile::q.
  void (*normalize_states)(const AttentionStates& states, int queries, int group, int head_dim,
                           const float* sinks, float* out, int64_t out_stride);
};

/// Null if the build lacks the instruction set. The caller checks that the processor has it.
const CpuKernels* cpu_kernels(kernels::Isa isa);
/// Kernels of the instruction set selected by isa().
inline const CpuKernels& cpu_kernels() {
  return *cpu_kernels(kernels::isa());
}

/// Limits of stack buffers: queries per tile, which bounds the query heads per KV head, and
/// head_dim.
inline constexpr int kMaxQueries = 64;
inline constexpr int kMaxHeadDim = 512;

}  // namespace mxgpt::cpu
