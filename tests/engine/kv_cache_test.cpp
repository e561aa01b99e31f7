#include "engine/kv_cache.h"

#include <gmock/gmock.h>

#include <set>

namespace mxgpt::engine {
namespace {

TEST(SequencePages, FullLayersKeepEverything) {
  PagePool pool(max_pages_per_sequence(200, 0, 64));
  std::vector<int32_t> row(pages_for(200));
  SequencePages pages(pool, 0, row);
  EXPECT_EQ(pool.free(), 7);
  ASSERT_TRUE(pages.reserve(200));
  EXPECT_EQ(pool.free(), 0);
  pages.trim(200);
  EXPECT_TRUE(pages.can_continue_at(200));
  EXPECT_TRUE(pages.can_continue_at(1));
  pages.trim(33);
  EXPECT_EQ(pool.free(), 5);
  EXPECT_FALSE(pages.can_continue_at(65));
}

/// For any window and step size, every visible key has a page, no page is used twice, and the pool
/// never runs out.
TEST(SequencePages, WindowKeepsExactlyTheVisiblePages) {
  for (const int64_t window : {1, 2, 31, 32, 33, 128}) {
    for (const int64_t rows : {1, 3, 32, 50}) {
      const int64_t context = 400;
      PagePool pool(max_pages_per_sequence(context, window, rows));
      const int64_t all = pool.free();
      std::vector<int32_t> row_of_table(pages_for(context));
      SequencePages pages(pool, window, row_of_table);
      for (int64_t end = 0; end + rows <= context;) {
        ASSERT_TRUE(pages.reserve(end + rows)) << window << " " << rows << " " << end;
        for (int64_t row = end; row < end + rows; ++row) {
          for (int64_t seen = std::max<int64_t>(0, row - window + 1); seen <= row; ++seen) {
            ASSERT_GE(pages.row()[seen / backend::kPageTokens], 0) << row << " sees " << seen;
          }
        }
        std::set<int32_t> distinct;
        int64_t num_held = 0;
        for (const int32_t page : pages.row()) {
          if (page >= 0) distinct.insert(page), ++num_held;
        }
        ASSERT_EQ(static_cast<int64_t>(distinct.size()), num_held);
        end += rows;
        pages.trim(end);
        EXPECT_TRUE(pages.can_continue_at(end));
      }
      pages.trim(0);
      EXPECT_EQ(pool.free(), all);
    }
  }
}

TEST(SequencePages, FailedReserveAllocatesNothing) {
  PagePool pool(2);
  std::vector<int32_t> row(pages_for(1000));
  SequencePages pages(pool, 0, row);
  EXPECT_FALSE(pages.reserve(65));
  EXPECT_EQ(pool.free(), 2);
  EXPECT_TRUE(pages.reserve(64));
}

}  // namespace
}  // namespace mxgpt::engine
