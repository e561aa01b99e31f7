#include "engine/token_stream.h"

#include <utility>

namespace mxgpt::engine {

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::deadline:
      return "deadline";
    case FinishReason::degenerate:
      return "collapsed";
    case FinishReason::constraint:
      return "constraint";
    case FinishReason::grammar_timeout:
      return "grammar_timeout";
    case FinishReason::slow_reader:
      return "slow_reader";
    case FinishReason::out_of_memory:
      return "no_memory";
    case FinishReason::step_failed:
      return "failed";
  }
  return "";
}

StreamState::StreamState(int choices, int64_t capacity)
    : capacity_(capacity), choice_cancelled_(choices) {}

bool StreamState::push(StreamEvent event) {
  const auto* end = std::get_if<ChoiceEnd>(&event);
  const std::lock_guard lock(mutex_);
  if (!end && static_cast<int64_t>(events_.size()) >= capacity_) return false;
  ended_ = end && end->last;
  events_.push_back(std::move(event));
  if (events_.size() == 1) arrived_.notify_one();
  if (ready_ && (events_.size() == 1 || ended_)) ready_(ended_);
  return true;
}

TokenStream::TokenStream(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}
TokenStream::TokenStream(TokenStream&&) noexcept = default;

TokenStream& TokenStream::operator=(TokenStream&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

TokenStream::~TokenStream() {
  if (!state_) return;
  cancel();
  on_ready({});
}

std::vector<StreamEvent> TokenStream::poll() {
  const std::lock_guard lock(state_->mutex_);
  return std::exchange(state_->events_, {});
}

std::vector<StreamEvent> TokenStream::wait(
    std::optional<std::chrono::steady_clock::time_point> until) {
  std::unique_lock lock(state_->mutex_);
  const auto has_events = [&] { return !state_->events_.empty() || state_->ended_; };
  if (until) {
    state_->arrived_.wait_until(lock, *until, has_events);
  } else {
    state_->arrived_.wait(lock, has_events);
  }
  return std::exchange(state_->events_, {});
}

void TokenStream::on_ready(std::function<void(bool)> ready) {
  const std::lock_guard lock(state_->mutex_);
  state_->ready_ = std::move(ready);
  if (state_->ready_ && !state_->events_.empty()) state_->ready_(state_->ended_);
}

void TokenStream::cancel() {
  for (std::atomic<bool>& choice : state_->choice_cancelled_) choice = true;
  state_->cancelled_ = true;
}

void TokenStream::cancel(int choice) {
  state_->choice_cancelled_.at(choice) = true;
  state_->cancelled_ = true;
}

}  // namespace mxgpt::engine
