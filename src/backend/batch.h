// One step's work: rows of any mix of sequences, prefill and decode alike.
#pragma once

#include <cstdint>
#include <span>

namespace mxgpt::backend {

/// Tokens a page of the KV cache holds. Also the block over which attention keeps one running
/// maximum, so results do not depend on how a prompt was cut into steps.
inline constexpr int kPageTokens = 32;

/// Layers keep their keys and values in one of two groups of pages: layers that see everything, and
/// sliding-window layers, whose old pages are given back.
enum class KvGroup { full, window };
inline constexpr int kKvGroups = 2;

/// Which physical pages hold each sequence: entry [sequence * stride + position / kPageTokens]; -1
/// where the page was given back or is not used.
struct PageTable {
  const int32_t* pages = nullptr;
  int64_t stride = 0;

  int32_t page(int32_t sequence, int64_t position) const {
    return pages[sequence * stride + position / kPageTokens];
  }
};

/// Rows of one sequence are adjacent, at consecutive positions; each row sees the cache and the
/// rows of its sequence up to itself. All spans live until the step returns.
struct Batch {
  std::span<const int32_t> tokens;     ///< [rows]
  std::span<const int32_t> positions;  ///< [rows] 0-based position in its sequence
  std::span<const int32_t> sequences;  ///< [rows] index of the row's sequence in the page tables
  PageTable tables[kKvGroups];
  std::span<const int32_t> logit_rows;  ///< rows whose logits are wanted, ascending

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

}  // namespace mxgpt::backend
