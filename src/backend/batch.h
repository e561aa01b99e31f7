// The tokens of one step: any mix of sequences, prefill and decode.
#pragma once

#include <cstdint>
#include <span>

namespace mxgpt::backend {

/// Tokens per page of the KV cache. Attention also keeps one running maximum per page, so results
/// do not depend on how a prompt is chunked.
inline constexpr int kPageTokens = 32;

/// Page group of a layer's keys and values: full attention, or a sliding window, whose old pages
/// are released.
enum class KvGroup { full, window };
inline constexpr int kKvGroups = 2;

/// Physical page of each logical page: entry [sequence * stride + position / kPageTokens]; -1 if
/// released or unused.
struct PageTable {
  const int32_t* pages = nullptr;
  int64_t stride = 0;

  int32_t page(int32_t sequence, int64_t position) const {
    return pages[sequence * stride + position / kPageTokens];
  }
};

/// Rows of one sequence are adjacent and at consecutive positions. A row attends to the cache and
/// to the rows of its sequence up to itself. The spans must stay valid until the step returns.
struct Batch {
  std::span<const int32_t> tokens;     ///< [rows]
  std::span<const int32_t> positions;  ///< [rows] 0-based position in its sequence
  std::span<const int32_t> sequences;  ///< [rows] index of the row's sequence in the page tables
  PageTable tables[kKvGroups];
  std::span<const int32_t> logit_rows;  ///< rows that need logits, ascending

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

}  // namespace mxgpt::backend
