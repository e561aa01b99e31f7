#include "engine/kv_pages.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/sha256.h"

namespace mxgpt {

namespace {

PageKey key_of(std::span<const std::byte> bytes) {
  const std::array<std::byte, 32> digest = sha256(bytes);
  PageKey key;
  std::memcpy(key.bits.data(), digest.data(), sizeof key.bits);
  return key;
}

}  // namespace

PageKey PageKey::root(std::string_view salt) {
  return key_of(std::as_bytes(std::span(salt)));
}

PageKey PageKey::next(std::span<const int32_t> tokens) const {
  MXGPT_CHECK(tokens.size() <= kPageTokens, "{} tokens", tokens.size());
  std::byte bytes[sizeof bits + kPageTokens * sizeof(int32_t)];
  std::memcpy(bytes, bits.data(), sizeof bits);
  std::memcpy(bytes + sizeof bits, tokens.data(), tokens.size_bytes());
  return key_of(std::span(bytes).first(sizeof bits + tokens.size_bytes()));
}

PagePool::PagePool(int64_t pages) : pages_(pages) {
  for (int64_t page = pages; page-- > 0;) blank_.push_back(static_cast<int32_t>(page));
}

std::optional<int32_t> PagePool::take() {
  int32_t page = -1;
  if (!blank_.empty()) {
    page = blank_.back();
    blank_.pop_back();
  } else {
    page = idle_[idle_[0].count ? 0 : 1].first;
    if (page < 0) return std::nullopt;
    unlink(page);
    by_key_.erase(pages_[page].key);
    pages_[page] = {};
  }
  pages_[page].holders = 1;
  return page;
}

void PagePool::share(int32_t page) {
  if (pages_[page].holders++ == 0) unlink(page);
}

void PagePool::give_back(int32_t page) {
  MXGPT_CHECK(pages_[page].holders > 0, "page {} is held by none", page);
  if (--pages_[page].holders > 0) return;
  if (pages_[page].keyed) {
    link(page);
  } else {
    blank_.push_back(page);
  }
}

void PagePool::set_key(int32_t page, const PageKey& key) {
  MXGPT_CHECK(pages_[page].holders > 0, "page {} is held by none", page);
  if (pages_[page].keyed || !by_key_.try_emplace(key, page).second) return;
  pages_[page].keyed = true;
  pages_[page].key = key;
}

void PagePool::clear_key(int32_t page) {
  MXGPT_CHECK(pages_[page].holders > 0, "page {} is held by none", page);
  if (!pages_[page].keyed) return;
  by_key_.erase(pages_[page].key);
  pages_[page].keyed = pages_[page].valued = false;
}

std::optional<int32_t> PagePool::find(const PageKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? std::nullopt : std::optional(found->second);
}

void PagePool::value(const PageKey& key) {
  const std::optional<int32_t> page = find(key);
  if (!page || pages_[*page].valued) return;
  const bool idle = pages_[*page].holders == 0;
  if (idle) unlink(*page);
  pages_[*page].valued = true;
  if (idle) link(*page);
}

void PagePool::link(int32_t page) {
  List& list = idle_[pages_[page].valued];
  pages_[page].before = list.last;
  pages_[page].after = -1;
  (list.last >= 0 ? pages_[list.last].after : list.first) = page;
  list.last = page;
  ++list.count;
}

void PagePool::unlink(int32_t page) {
  List& list = idle_[pages_[page].valued];
  const auto [before, after] = std::pair(pages_[page].before, pages_[page].after);
  (before >= 0 ? pages_[before].after : list.first) = after;
  (after >= 0 ? pages_[after].before : list.last) = before;
  --list.count;
}

SequencePages::SequencePages(PagePool& pool, int64_t window, std::span<int32_t> row)
    : pool_(pool), window_(window), row_(row) {
  std::fill(row_.begin(), row_.end(), -1);
}

bool SequencePages::reserve(int64_t end) {
  const int64_t count = pages_for(end);
  MXGPT_CHECK(count <= static_cast<int64_t>(row_.size()), "{} pages of {}", count, row_.size());
  if (pool_.free() < count - held_end_) return false;
  for (; held_end_ < count; ++held_end_) row_[held_end_] = *pool_.take();
  return true;
}

int64_t SequencePages::first_visible_page(int64_t end) const {
  return window_ ? std::max<int64_t>(0, end - window_ + 1) / kPageTokens : 0;
}

void SequencePages::keep(int64_t end) {
  const auto drop = [&](int64_t index) {
    pool_.give_back(row_[index]);
    row_[index] = -1;
  };
  const int64_t last = pages_for(end);
  while (held_end_ > std::max(last, held_begin_)) drop(--held_end_);
  if (held_end_ == held_begin_) held_begin_ = held_end_ = last;
  for (const int64_t first = first_visible_page(end); held_begin_ < std::min(first, held_end_);)
    drop(held_begin_++);
}

bool SequencePages::can_continue_at(int64_t end) const {
  const int64_t first = first_visible_page(end), last = pages_for(end);
  return first >= last || (held_begin_ <= first && last <= held_end_);
}

bool SequencePages::adopt(std::span<const PageKey> keys) {
  const auto count = static_cast<int64_t>(keys.size());
  const int64_t first = first_visible_page(count * kPageTokens);
  MXGPT_CHECK(held() == 0, "{} pages are held", held());
  for (int64_t i = first; i < count; ++i) {
    if (!pool_.find(keys[i])) return false;
  }
  for (int64_t i = first; i < count; ++i) {
    row_[i] = *pool_.find(keys[i]);
    pool_.share(row_[i]);
  }
  held_begin_ = first;
  held_end_ = count;
  return true;
}

void SequencePages::adopt_partial(const PageKey& key) {
  const int32_t page = *pool_.find(key);
  pool_.share(page);
  pool_.clear_key(page);
  row_[held_end_++] = page;
}

void SequencePages::clear_keys() {
  for (int64_t i = held_begin_; i < held_end_; ++i) pool_.clear_key(row_[i]);
}

int64_t pages_for(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

int64_t pages_needed(int64_t context, int64_t window, int64_t rows) {
  // A window may begin and end inside a page, and the rows of a step come on top.
  return window ? std::min(pages_for(context), pages_for(window + rows) + 1) : pages_for(context);
}

}  // namespace mxgpt
