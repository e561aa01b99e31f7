#include "engine/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/sha256.h"

namespace mxgpt::engine {

namespace {

PageKey hash_to_key(std::span<const std::byte> bytes) {
  const std::array<std::byte, 32> digest = sha256(bytes);
  PageKey key;
  std::memcpy(key.bits.data(), digest.data(), sizeof key.bits);
  return key;
}

}  // namespace

PageKey PageKey::root(std::string_view salt) {
  return hash_to_key(std::as_bytes(std::span(salt)));
}

PageKey PageKey::next(std::span<const int32_t> tokens) const {
  MXGPT_CHECK(tokens.size() <= backend::kPageTokens, "{} tokens", tokens.size());
  std::byte bytes[sizeof bits + backend::kPageTokens * sizeof(int32_t)];
  std::memcpy(bytes, bits.data(), sizeof bits);
  std::memcpy(bytes + sizeof bits, tokens.data(), tokens.size_bytes());
  return hash_to_key(std::span(bytes).first(sizeof bits + tokens.size_bytes()));
}

PagePool::PagePool(int64_t pages) : pages_(pages) {
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

std::optional<int32_t> PagePool::allocate() {
  int32_t page = -1;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = cached_[cached_[0].count ? 0 : 1].head;
    if (page < 0) return std::nullopt;
    lru_remove(page);
    by_key_.erase(pages_[page].key);
    pages_[page] = {};
  }
  pages_[page].ref_count = 1;
  return page;
}

void PagePool::add_ref(int32_t page) {
  if (pages_[page].ref_count++ == 0) lru_remove(page);
}

void PagePool::release(int32_t page) {
  MXGPT_CHECK(pages_[page].ref_count > 0, "page {} is not referenced", page);
  if (--pages_[page].ref_count > 0) return;
  if (pages_[page].has_key) {
    lru_push(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::set_key(int32_t page, const PageKey& key) {
  MXGPT_CHECK(pages_[page].ref_count > 0, "page {} is not referenced", page);
  if (pages_[page].has_key || !by_key_.try_emplace(key, page).second) return;
  pages_[page].has_key = true;
  pages_[page].key = key;
}

void PagePool::clear_key(int32_t page) {
  MXGPT_CHECK(pages_[page].ref_count > 0, "page {} is not referenced", page);
  if (!pages_[page].has_key) return;
  by_key_.erase(pages_[page].key);
  pages_[page].has_key = pages_[page].is_protected = false;
}

std::optional<int32_t> PagePool::find(const PageKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? std::nullopt : std::optional(found->second);
}

void PagePool::protect(const PageKey& key) {
  const std::optional<int32_t> page = find(key);
  if (!page || pages_[*page].is_protected) return;
  const bool is_cached = pages_[*page].ref_count == 0;
  if (is_cached) lru_remove(*page);
  pages_[*page].is_protected = true;
  if (is_cached) lru_push(*page);
}

void PagePool::lru_push(int32_t page) {
  LruList& list = cached_[pages_[page].is_protected];
  pages_[page].lru_prev = list.tail;
  pages_[page].lru_next = -1;
  (list.tail >= 0 ? pages_[list.tail].lru_next : list.head) = page;
  list.tail = page;
  ++list.count;
}

void PagePool::lru_remove(int32_t page) {
  LruList& list = cached_[pages_[page].is_protected];
  const auto [prev, next] = std::pair(pages_[page].lru_prev, pages_[page].lru_next);
  (prev >= 0 ? pages_[prev].lru_next : list.head) = next;
  (next >= 0 ? pages_[next].lru_prev : list.tail) = prev;
  --list.count;
}

SequencePages::SequencePages(PagePool& pool, int64_t window, std::span<int32_t> row)
    : pool_(pool), window_(window), row_(row) {
  std::fill(row_.begin(), row_.end(), -1);
}

bool SequencePages::reserve(int64_t end) {
  const int64_t count = pages_for(end);
  MXGPT_CHECK(count <= static_cast<int64_t>(row_.size()), "{} pages of {}", count, row_.size());
  if (pool_.free() < count - end_page_) return false;
  for (; end_page_ < count; ++end_page_) row_[end_page_] = *pool_.allocate();
  return true;
}

int64_t SequencePages::first_visible_page(int64_t end) const {
  return window_ ? std::max<int64_t>(0, end - window_ + 1) / backend::kPageTokens : 0;
}

void SequencePages::trim(int64_t end) {
  const auto drop = [&](int64_t index) {
    pool_.release(row_[index]);
    row_[index] = -1;
  };
  const int64_t last = pages_for(end);
  while (end_page_ > std::max(last, first_page_)) drop(--end_page_);
  if (end_page_ == first_page_) first_page_ = end_page_ = last;
  for (const int64_t first = first_visible_page(end); first_page_ < std::min(first, end_page_);)
    drop(first_page_++);
}

bool SequencePages::can_continue_at(int64_t end) const {
  const int64_t first = first_visible_page(end), last = pages_for(end);
  return first >= last || (first_page_ <= first && last <= end_page_);
}

bool SequencePages::attach_cached(std::span<const PageKey> keys) {
  const auto count = static_cast<int64_t>(keys.size());
  const int64_t first = first_visible_page(count * backend::kPageTokens);
  MXGPT_CHECK(num_pages() == 0, "{} pages are referenced", num_pages());
  for (int64_t i = first; i < count; ++i) {
    if (!pool_.find(keys[i])) return false;
  }
  for (int64_t i = first; i < count; ++i) {
    row_[i] = *pool_.find(keys[i]);
    pool_.add_ref(row_[i]);
  }
  first_page_ = first;
  end_page_ = count;
  return true;
}

void SequencePages::attach_partial(const PageKey& key) {
  const int32_t page = *pool_.find(key);
  pool_.add_ref(page);
  pool_.clear_key(page);
  row_[end_page_++] = page;
}

void SequencePages::clear_keys() {
  for (int64_t i = first_page_; i < end_page_; ++i) pool_.clear_key(row_[i]);
}

int64_t pages_for(int64_t tokens) {
  return (tokens + backend::kPageTokens - 1) / backend::kPageTokens;
}

int64_t max_pages_per_sequence(int64_t context, int64_t window, int64_t rows) {
  // The window may start and end inside a page; the tokens of a step are added to it.
  return window ? std::min(pages_for(context), pages_for(window + rows) + 1) : pages_for(context);
}

}  // namespace mxgpt::engine
