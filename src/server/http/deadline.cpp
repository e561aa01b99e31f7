#include "server/http/deadline.h"

namespace mxgpt::server {

void Deadline::set_at(Clock::time_point at) {
  at_ = at;
  if (at_ < armed_at_) arm();
}

void Deadline::stop() {
  clear();
  timer_.cancel();
}

void Deadline::arm() {
  armed_at_ = at_;
  timer_.expires_at(at_);
  timer_.async_wait([this, owner = owner_](const boost::system::error_code& error) {
    // The wait was cancelled by another arm() or stop(), or the owner is gone.
    const auto alive = owner.lock();
    if (!error && alive) on_timer();
  });
}

void Deadline::on_timer() {
  armed_at_ = Clock::time_point::max();
  if (at_ == Clock::time_point::max()) return;
  if (Clock::now() < at_) return arm();
  expired_ = true;
  on_expired_();
}

}  // namespace mxgpt::server
