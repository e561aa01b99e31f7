// Mergeable attention states (Milakov & Gimelshein 2018, arXiv 1805.02867). For a query and a range
// of keys with scores s and values v: the maximum score m, Σ e^(s-m), and Σ e^(s-m) v.
#pragma once

#include <cstdint>

#include "backend/batch.h"

namespace mxgpt::cpu {

/// Positions per KV split. Splits start at its multiples and are merged first to last, however work
/// is distributed, so a result depends on its query and keys alone.
inline constexpr int64_t kKvSplitTokens = 8 * backend::kPageTokens;

/// States of several queries, in memory owned by the caller. A state without keys has sum_exp 0.
struct AttentionStates {
  float* max_score;  ///< [queries]
  float* sum_exp;    ///< [queries]
  float* acc;        ///< [queries][stride], of which head_dim are used
  int64_t stride;

  /// head_dim rounded up to the column tile of the GEMM.
  static constexpr int64_t padded_head_dim(int64_t head_dim) { return (head_dim + 31) / 32 * 32; }
  static constexpr int64_t float_count(int64_t queries, int64_t head_dim) {
    return queries * (2 + padded_head_dim(head_dim));
  }
  static AttentionStates view(float* memory, int64_t queries, int64_t head_dim) {
    return {memory, memory + queries, memory + 2 * queries, padded_head_dim(head_dim)};
  }
};

}  // namespace mxgpt::cpu
