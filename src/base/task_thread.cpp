#include "base/task_thread.h"

#include <system_error>
#include <utility>

namespace mxgpt {

TaskThread::TaskThread(Starter start)
    : start_(std::move(start)), queue_(std::make_shared<Queue>()) {
  ensure_started();
}

TaskThread::~TaskThread() {
  if (!thread_.joinable()) return;
  std::unique_lock lock(queue_->mutex);
  queue_->stopping = true;
  queue_->tasks.clear();
  queue_->changed.notify_all();
  const bool stopped = queue_->changed.wait_for(lock, kMaxWait, [this] { return queue_->stopped; });
  lock.unlock();
  stopped ? thread_.join() : thread_.detach();
}

bool TaskThread::ensure_started() {
  const std::lock_guard lock(start_mutex_);
  if (thread_.joinable()) return true;
  try {
    thread_ = start_([queue = queue_] { run(*queue); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

bool TaskThread::post(std::function<void()> task) {
  if (!ensure_started()) return false;
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->tasks.push_back(std::move(task));
  }
  queue_->changed.notify_all();
  return true;
}

void TaskThread::run(Queue& queue) {
  std::unique_lock lock(queue.mutex);
  while (true) {
    queue.changed.wait(lock, [&] { return queue.stopping || !queue.tasks.empty(); });
    if (queue.stopping) break;
    std::function<void()> task = std::move(queue.tasks.front());
    queue.tasks.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // its captures are released outside the lock
    lock.lock();
  }
  queue.stopped = true;
  queue.changed.notify_all();
}

}  // namespace mxgpt
