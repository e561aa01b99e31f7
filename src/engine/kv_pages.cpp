#include "engine/kv_pages.h"

#include <algorithm>

#include "base/check.h"

namespace mxgpt {

PagePool::PagePool(int64_t pages) {
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

std::optional<int32_t> PagePool::take() {
  if (free_.empty()) return std::nullopt;
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void PagePool::give_back(int32_t page) {
  free_.push_back(page);
}

namespace {
int64_t pages_for(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}
}  // namespace

SequencePages::SequencePages(PagePool& pool, int64_t window, int64_t context)
    : pool_(pool), window_(window), pages_(pages_for(context), -1) {}

bool SequencePages::reserve(int64_t end) {
  const int64_t count = pages_for(end);
  MXGPT_CHECK(count <= static_cast<int64_t>(pages_.size()), "{} pages of {}", count, pages_.size());
  // The missing pages are at the end: earlier ones are held, or were left behind by the window.
  int64_t first = count;
  while (first > 0 && pages_[first - 1] < 0) --first;
  if (window_) first = std::max(first, first_visible_page(end_));
  if (pool_.free() < count - first) return false;
  for (int64_t i = first; i < count; ++i) pages_[i] = *pool_.take();
  return true;
}

int64_t SequencePages::first_visible_page(int64_t end) const {
  return window_ ? std::max<int64_t>(0, end - window_ + 1) / kPageTokens : 0;
}

void SequencePages::keep(int64_t end) {
  end_ = end;
  const int64_t first = first_visible_page(end), last = pages_for(end);
  for (int64_t i = 0; i < static_cast<int64_t>(pages_.size()); ++i) {
    if (pages_[i] >= 0 && (i < first || i >= last)) {
      pool_.give_back(pages_[i]);
      pages_[i] = -1;
    }
  }
}

bool SequencePages::can_continue_at(int64_t end) const {
  for (int64_t i = first_visible_page(end); i < pages_for(end); ++i) {
    if (pages_[i] < 0) return false;
  }
  return true;
}

int64_t pages_needed(int64_t context, int64_t window, int64_t rows) {
  // A window may begin and end inside a page, and the rows of a step come on top.
  return window ? std::min(pages_for(context), pages_for(window + rows) + 1) : pages_for(context);
}

}  // namespace mxgpt
