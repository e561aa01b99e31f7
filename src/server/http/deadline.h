// Timeouts of a connection.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>

namespace mxgpt::server {

/// Calls a function when a time has passed, unless the deadline has been moved or cleared by then.
/// All calls run on the executor's strand. Moving a deadline later is free: the timer is only
/// rearmed when it fires.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  /// `on_expired` runs on the executor. It must hold no strong reference to the owner.
  Deadline(const boost::asio::any_io_executor& executor, std::function<void()> on_expired)
      : timer_(executor), on_expired_(std::move(on_expired)) {}

  void set(Clock::duration timeout) { set_at(Clock::now() + timeout); }
  void clear() { at_ = Clock::time_point::max(); }
  bool expired() const { return expired_; }

  /// Must be called while the owner is alive: `keep_alive` is held by the pending timer.
  void start(std::weak_ptr<void> owner) { owner_ = std::move(owner); }
  /// Cancels the timer.
  void stop();

 private:
  void set_at(Clock::time_point at);
  void arm();
  void on_timer();

  boost::asio::steady_timer timer_;
  std::function<void()> on_expired_;
  std::weak_ptr<void> owner_;
  Clock::time_point at_ = Clock::time_point::max();
  Clock::time_point armed_at_ = Clock::time_point::max();
  bool expired_ = false;
};

}  // namespace mxgpt::server
