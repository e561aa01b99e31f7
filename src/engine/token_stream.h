// The engine side of a TokenStream.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/request.h"

namespace mxgpt::engine {

class StreamState {
 public:
  StreamState(int choices, int64_t capacity);

  /// Returns false, and drops the event, if the stream is full. A ChoiceEnd is always accepted.
  bool push(StreamEvent event);
  bool cancelled(int choice) const {
    return cancelled_.load(std::memory_order_relaxed) &&
           choice_cancelled_[choice].load(std::memory_order_relaxed);
  }

 private:
  friend class TokenStream;

  const int64_t capacity_;
  std::atomic<bool> cancelled_ = false;  // set if any choice is cancelled
  std::vector<std::atomic<bool>> choice_cancelled_;

  std::mutex mutex_;  // guards all members below
  std::condition_variable arrived_;
  std::vector<StreamEvent> events_;
  bool ended_ = false;
  std::function<void(bool)> ready_;
};

}  // namespace mxgpt::engine
