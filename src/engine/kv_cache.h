// Pages of the KV cache: who holds which, and which prefix of a text an idle one still holds. Knows
// no bytes; the runner does.
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

/// Names a page by all tokens up to its end: SHA-256 over the key before and the page's tokens, cut
/// to 128 bits. Strangers choose the tokens, so a weaker hash could be made to collide
/// and show one client's cache to another.
struct PageKey {
  std::array<uint64_t, 2> bits{};
  bool operator==(const PageKey&) const = default;

  /// Before the first page. Texts of different salts share nothing.
  static PageKey root(std::string_view salt);
  /// `tokens` are kPageTokens, or fewer of a page that is not full.
  PageKey next(std::span<const int32_t> tokens) const;
};

/// Pages 0 … pages-1 of one group. A page is held by the sequences that read it; one that nobody
/// holds is blank, or keeps its contents to be found by its key until it is taken for something
/// else.
class PagePool {
 public:
  explicit PagePool(int64_t pages);

  /// A page for writing: a blank one, else the one longest idle, valued ones last. Empty when all
  /// are held.
  std::optional<int32_t> allocate();
  /// One more sequence holds the page.
  void add_ref(int32_t page);
  /// One fewer does.
  void release(int32_t page);

  /// The page is found by this key from now on, unless another has the key already.
  void set_key(int32_t page, const PageKey& key);
  /// Its contents are not to be found any more.
  void clear_key(int32_t page);
  std::optional<int32_t> find(const PageKey& key) const;
  /// The page with this key, if there is one, is taken only when no plain one is idle.
  void protect(const PageKey& key);

  int64_t total() const { return static_cast<int64_t>(pages_.size()); }
  /// That take() can give.
  int64_t free() const { return static_cast<int64_t>(free_.size()) + cached(); }
  /// Of these, pages with a key.
  int64_t cached() const { return cached_[0].count + cached_[1].count; }

 private:
  struct Page {
    int32_t ref_count = 0;
    bool has_key = false, is_protected = false;
    int32_t lru_prev = -1, lru_next = -1;  // among the idle, by when they became so
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
  std::vector<int32_t> free_;  // the last is next
  LruList cached_[2];          // plain, valued; the first is idle longest
  std::unordered_map<PageKey, int32_t, KeyHash> by_key_;
};

/// The pages of one sequence in one group. Owns neither the pool nor its row of the page table,
/// [context / kPageTokens], where it writes the pages, -1 where none.
class SequencePages {
 public:
  /// `window` 0 keeps everything; else only pages that a row at or past the sequence's end can see.
  SequencePages(PagePool& pool, int64_t window, std::span<int32_t> row);

  /// Makes pages for positions up to `end` - 1. False, and nothing taken, if the pool has too few.
  bool reserve(int64_t end);
  /// The sequence now ends at `end`: gives back pages past it, and those the window has left
  /// behind. Later pages first: a prefix without its tail is of use, a tail alone is not.
  void trim(int64_t end);
  /// Whether a row at position `end` would find all it can see.
  bool can_continue_at(int64_t end) const;

  /// An empty sequence begins with `keys.size()` full pages found in the pool. False, and nothing
  /// held, if one that a row there can see is not to be found.
  bool attach_cached(std::span<const PageKey> keys);
  /// And goes on in the page behind these, that its last holder left partly filled: found once, as
  /// it is written to again.
  void attach_partial(const PageKey& key);
  /// What the page of that index holds.
  void set_key(int64_t index, const PageKey& key) { pool_.set_key(row_[index], key); }
  /// What is held is not to be found any more.
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

/// Pages that one sequence of `context` tokens needs at most, when up to `rows` of them come in a
/// step.
int64_t max_pages_per_sequence(int64_t context, int64_t window, int64_t rows);

}  // namespace mxgpt::engine
