#include "base/thread_pool.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "base/cpu_count.h"

namespace mxgpt {
namespace {

class Threads : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_thread_count(GetParam()); }
  void TearDown() override { set_thread_count(default_thread_count()); }
};
INSTANTIATE_TEST_SUITE_P(Counts, Threads, testing::Values(1, 2, 3, 7));

TEST_P(Threads, EveryItemRunsOnceAndIsSeenAfterwards) {
  EXPECT_EQ(thread_count(), GetParam());
  for (const int64_t count : {0, 1, 2, 3, 64, 1000}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<int> runs(count);  // not atomic, so that TSan reports an item that runs twice
      parallel_for(count, [&](int64_t i) { ++runs[i]; });
      EXPECT_EQ(runs, std::vector<int>(count, 1));
    }
  }
}

TEST_P(Threads, ManyShortLoopsOneAfterAnother) {
  std::vector<int64_t> values(8);
  for (int64_t loop = 0; loop < 20000; ++loop)
    parallel_for(loop % 9, [&](int64_t i) { values[i] += loop; });
  int64_t expected = 0;
  for (int64_t loop = 0; loop < 20000; ++loop) expected += loop * (loop % 9);
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), expected);
}

TEST_P(Threads, ThreadsThatSleptComeBack) {
  for (int loop = 0; loop < 5; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> runs = 0;
    parallel_for(100, [&](int64_t) { ++runs; });
    EXPECT_EQ(runs, 100);
  }
}

TEST_P(Threads, ALoopInALoopRunsOnItsThreadAlone) {
  std::atomic<int> begun = 0, runs = 0;
  parallel_for(GetParam(), [&](int64_t) {
    ++begun;
    while (begun < GetParam()) std::this_thread::yield();  // one item on each thread
    const std::thread::id self = std::this_thread::get_id();
    parallel_for(10, [&](int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++runs;
    });
  });
  EXPECT_EQ(runs, 10 * GetParam());
}

TEST_P(Threads, LoopsOfTwoThreadsTakeTurns) {
  std::atomic<int> runs = 0;
  const auto loops = [&] {
    for (int loop = 0; loop < 500; ++loop) parallel_for(10, [&](int64_t) { ++runs; });
  };
  std::thread other(loops);
  loops();
  other.join();
  EXPECT_EQ(runs, 10000);
}

TEST_P(Threads, RangesCoverAllOnce) {
  for (const int64_t count : {0, 1, 15, 16, 17, 100}) {
    std::vector<int> runs(count);
    parallel_ranges(count, 16, [&](int64_t begin, int64_t end) {
      EXPECT_LE(end - begin, 16);
      for (int64_t i = begin; i < end; ++i) ++runs[i];
    });
    EXPECT_EQ(runs, std::vector<int>(count, 1));
  }
}

TEST(ThreadCount, ChangesBetweenLoops) {
  for (const int count : {4, 1, 2, 5}) {
    set_thread_count(count);
    std::atomic<int> runs = 0;
    parallel_for(50, [&](int64_t) { ++runs; });
    EXPECT_EQ(runs, 50);
  }
  set_thread_count(default_thread_count());
}

}  // namespace
}  // namespace mxgpt
