#include "base/task_thread.h"

#include <gmock/gmock.h>

#include <future>
#include <system_error>
#include <vector>

namespace mxgpt {
namespace {

TEST(TaskThread, RunsTasksInOrder) {
  std::vector<int> ran;
  std::promise<void> done;
  TaskThread thread;
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(thread.post([&ran, i] { ran.push_back(i); }));
  thread.post([&done] { done.set_value(); });
  done.get_future().wait();
  ASSERT_EQ(ran.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ran[i], i);
}

TEST(TaskThread, DestructionWaitsForTheRunningTask) {
  std::promise<void> started;
  bool finished = false;
  {
    TaskThread thread;
    thread.post([&] {
      started.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      finished = true;
    });
    started.get_future().wait();
  }
  EXPECT_TRUE(finished);
}

TEST(TaskThread, AFailedStartIsRetried) {
  int failures = 2;
  TaskThread thread([&](std::function<void()> body) {
    if (failures-- > 0) throw std::system_error(EAGAIN, std::system_category());
    return std::thread(std::move(body));
  });
  EXPECT_FALSE(thread.post([] {}));
  std::promise<void> done;
  EXPECT_TRUE(thread.post([&done] { done.set_value(); }));
  done.get_future().wait();
}

}  // namespace
}  // namespace mxgpt
