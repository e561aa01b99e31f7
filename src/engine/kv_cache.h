// Bookkeeping of KV cache pages: references, and reuse of cached prefixes. The runner owns the
// memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backend/batch.h"

namespace mxgpt::engine {

/// Identifies a page by all tokens up to its end: SHA-256 over the previous key and the page's
/// tokens, truncated to 128 bits. Clients choose the tokens, so a weaker hash would let one client
/// read another's cache through a collision.
struct PageKey {
  std::array<uint64_t, 2> bits{};
  bool operator==(const PageKey&) const = default;

  /// The key before the first page. Different salts share nothing.
  static PageKey root(std::string_view salt);
  /// `tokens` has kPageTokens elements, or fewer for a partly filled page.
  PageKey next(std::span<const int32_t> tokens) const;
};

/// Pages 0 to pages-1 of one group. A page counts the sequences that reference it. An unreferenced
/// page is either free or cached: its contents stay reusable by key until it is evicted.
class PagePool {
 public:
  explicit PagePool(int64_t pages);

  /// A page for writing: a free one, else the least recently used cached one, protected ones last.
  /// Empty if all pages are referenced.
  std::optional<int32_t> allocate();
  /// Adds a reference.
  void add_ref(int32_t page);
  /// Drops a reference.
  void release(int32_t page);

  /// Makes a page reusable by this key, unless another page has the key.
  void set_key(int32_t page, const PageKey& key);
  /// Makes a page no longer reusable.
  void clear_key(int32_t page);
  std::optional<int32_t> find(const PageKey& key) const;
  /// Marks the page with this key, if it exists, as last to be evicted.
  void protect(const PageKey& key);

  int64_t total() const { return static_cast<int64_t>(pages_.size()); }
  /// Pages that allocate() can return.
  int64_t free() const { return static_cast<int64_t>(free_.size()) + cached(); }
  /// Unreferenced pages with a key.
  int64_t cached() const { return cached_[0].count + cached_[1].count; }

 private:
  struct Page {
    int32_t ref_count = 0;
    bool has_key = false, is_protected = false;
    int32_t lru_prev = -1, lru_next = -1;  // list of cached pages, least recently used first
    PageKey key;
  };
  struct LruList {
    int32_t head = -1, tail = -1;
    int64_t count = 0;
  };
  struct KeyHash {
    size_t operator()(const PageKey& key) const { return key.bits[0]; }
  };

  void lru_push(int32_t page);
  void lru_remove(int32_t page);

  std::vector<Page> pages_;
  std::vector<int32_t> free_;  // allocated from the back
  LruList cached_[2];          // unprotected, protected
  std::unordered_map<PageKey, int32_t, KeyHash> by_key_;
};

/// The pages of one sequence in one group. Writes page numbers, or -1, to its row of the page
/// table, [context / kPageTokens]. Owns neither the pool nor the row.
class SequencePages {
 public:
  /// `window` 0 keeps all pages; otherwise only those visible at or after the end of the sequence.
  SequencePages(PagePool& pool, int64_t window, std::span<int32_t> row);

  /// Allocates pages for positions below `end`. Returns false, and allocates none, if the pool has
  /// too few.
  bool reserve(int64_t end);
  /// Ends the sequence at `end`: releases pages past it and pages before the window. Later pages
  /// are released first, since a prefix is useful without its tail.
  void trim(int64_t end);
  /// Whether all positions visible from `end` are present.
  bool can_continue_at(int64_t end) const;

  /// Starts an empty sequence with cached pages for `keys`. Returns false, and references none, if
  /// a visible page is not cached.
  bool attach_cached(std::span<const PageKey> keys);
  /// Continues in a cached, partly filled page after these. The page loses its key, since it is
  /// written to again.
  void attach_partial(const PageKey& key);
  /// Sets the key of the page at this index.
  void set_key(int64_t index, const PageKey& key) { pool_.set_key(row_[index], key); }
  /// Makes all its pages no longer reusable.
  void clear_keys();

  std::span<const int32_t> row() const { return row_; }
  int64_t num_pages() const { return end_page_ - first_page_; }
  int64_t first_visible_page(int64_t end) const;

 private:
  PagePool& pool_;
  int64_t window_;
  std::span<int32_t> row_;
  int64_t first_page_ = 0, end_page_ = 0;  // indices of row_
};

/// ⌈tokens / kPageTokens⌉
int64_t pages_for(int64_t tokens);

/// Upper bound on the pages of one sequence of `context` tokens with up to `rows` tokens per step.
int64_t max_pages_per_sequence(int64_t context, int64_t window, int64_t rows);

}  // namespace mxgpt::engine
