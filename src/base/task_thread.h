// A thread that runs tasks one after another.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace mxgpt {

/// Thread-safe. The thread is started by the constructor; if the system refuses, each post() tries
/// again.
class TaskThread {
 public:
  /// Starts a thread; throws std::system_error if there is none to be had. Tests replace it.
  using Starter = std::function<std::thread(std::function<void()> body)>;

  static std::thread start_std_thread(std::function<void()> body) {
    return std::thread(std::move(body));
  }

  explicit TaskThread(Starter start = start_std_thread);
  /// Drops the tasks that have not started. Waits `kMaxWait` for the running one, then abandons its
  /// thread: third-party code may not be interruptible.
  ~TaskThread();

  /// Runs `task`, which must not throw, after those posted before. False, and `task` is dropped, if
  /// no thread can be started.
  bool post(std::function<void()> task);

 private:
  static constexpr std::chrono::seconds kMaxWait{2};

  struct Queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> tasks;
    bool stopping = false, stopped = false;
  };

  static void run(Queue& queue);
  bool ensure_started();

  const Starter start_;
  std::shared_ptr<Queue> queue_;  // shared with the thread, which may outlive this object
  std::mutex start_mutex_;
  std::thread thread_;
};

}  // namespace mxgpt
