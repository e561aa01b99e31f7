// Pages of the KV cache: who holds which. Knows no bytes; the runner does.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/batch.h"

namespace mxgpt {

/// Hands out page numbers 0 … pages-1 of one group.
class PagePool {
 public:
  explicit PagePool(int64_t pages);
  /// Empty when none is free.
  std::optional<int32_t> take();
  void give_back(int32_t page);
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

 private:
  std::vector<int32_t> free_;  // the last is next
};

/// The pages of one sequence in one group, by position / kPageTokens. Does not own the pool.
class SequencePages {
 public:
  /// `window` 0 keeps everything; else only pages that a row at or past the sequence's end can see.
  SequencePages(PagePool& pool, int64_t window, int64_t context);

  /// Makes pages for positions up to `end` - 1. False, and nothing taken, if the pool has too few.
  bool reserve(int64_t end);
  /// The sequence now ends at `end`: gives back pages past it, and those the window has left
  /// behind.
  void keep(int64_t end);
  /// Whether a row at position `end` would find all it can see.
  bool can_continue_at(int64_t end) const;
  const std::vector<int32_t>& pages() const { return pages_; }

 private:
  int64_t first_visible_page(int64_t end) const;

  PagePool& pool_;
  int64_t window_;
  int64_t end_ = 0;
  std::vector<int32_t> pages_;  // [context / kPageTokens], -1 where none
};

/// Pages that one sequence of `context` tokens needs at most, when up to `rows` of them come in a
/// step.
int64_t pages_needed(int64_t context, int64_t window, int64_t rows);

}  // namespace mxgpt
