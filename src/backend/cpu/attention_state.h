// Attention over a part of a sequence, so that parts can be put together (Milakov & Gimelshein
// 2018, arXiv 1805.02867): of a query and some keys with scores s and values v, the largest score
// m, the total Σ e^(s-m), and Σ e^(s-m) v.
#pragma once

#include <cstdint>

#include "backend/batch.h"

namespace mxgpt::cpu {

/// Positions that one state covers at most. Pieces begin at its multiples, and are put together
/// from the first to the last, in whatever way work was shared out: so a result depends on nothing
/// but its own query and keys.
inline constexpr int64_t kKvSplitTokens = 8 * backend::kPageTokens;

/// States of several queries, over memory of somebody else. One that has seen no key has total 0.
struct AttentionStates {
  float* max_score;  ///< [queries]
  float* sum_exp;    ///< [queries]
  float* acc;        ///< [queries][stride(head_dim)], of which head_dim are used
  int64_t stride;

  /// Whole panels of the matrix kernel.
  static constexpr int64_t padded_head_dim(int64_t head_dim) { return (head_dim + 31) / 32 * 32; }
  static constexpr int64_t float_count(int64_t queries, int64_t head_dim) {
    return queries * (2 + padded_head_dim(head_dim));
  }
  static AttentionStates view(float* memory, int64_t queries, int64_t head_dim) {
    return {memory, memory + queries, memory + 2 * queries, padded_head_dim(head_dim)};
  }
};

}  // namespace mxgpt::cpu
