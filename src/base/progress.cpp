#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <mutex>

namespace mxgpt {

namespace {

using namespace std::chrono_literals;
constexpr auto kFirstBarDelay = 300ms;
constexpr auto kBarInterval = 100ms;
constexpr auto kLineInterval = 10s;

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(std::min(std::ceil(seconds), 359999.0));  // 99:59:59
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

struct ListenerState {
  std::mutex mutex;
  ProgressListener listener;
};

ListenerState& listener_state() {
  static ListenerState one;
  return one;
}

/// Returns whether a listener is set.
bool notify_listener(const std::string& label, uint64_t done, uint64_t total) {
  const std::lock_guard lock(listener_state().mutex);
  if (listener_state().listener) listener_state().listener(label, done, total);
  return bool(listener_state().listener);
}

}  // namespace

void set_progress_listener(ProgressListener listener) {
  const std::lock_guard lock(listener_state().mutex);
  listener_state().listener = std::move(listener);
}

std::string format_progress(const std::string& label, uint64_t done, uint64_t total, double seconds,
                            int width, const std::string& unit) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text =
      unit.empty()
          ? fmt::format("{:.2f} of {:.2f} GB, {:.2f} GB/s", static_cast<double>(done) / 1e9,
                        static_cast<double>(total) / 1e9, rate / 1e9)
          : fmt::format("{} of {} {}, {:.0f} {}/s", done, total, unit, rate, unit);
  if (rate > 0 && done < total) {
    text += fmt::format(", {} left", format_duration(static_cast<double>(total - done) / rate));
  }
  // The width of the longest text, so that the bar does not move while the numbers change.
  constexpr int kTextColumns = 46;
  const int available = width - static_cast<int>(label.size()) - kTextColumns - 4;
  const int bar = std::min(available, 40);
  if (bar < 10) return fmt::format("{} {}", label, text);
  const double fraction =
      total > 0 ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total)) : 1;
  const int filled = static_cast<int>(fraction * bar);
  std::string cells;
  for (int i = 0; i < bar; ++i) cells += i < filled ? "━" : "─";
  return fmt::format("{} {} {}", label, cells, text);
}

Progress::Progress(std::string label, uint64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1) {
  next_ = start_;
  next_ += terminal_ ? Clock::duration(kFirstBarDelay) : Clock::duration(kLineInterval);
  notify_listener(label_, 0, total_);
}

Progress::~Progress() {
  if (shown_ && terminal_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::advance(uint64_t amount) {
  done_ += amount;
  if (notify_listener(label_, done_, total_)) return;
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now;
  next_ += terminal_ ? Clock::duration(kBarInterval) : Clock::duration(kLineInterval);
  shown_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  if (terminal_) {
    // One column less than the terminal: a full line would wrap.
    fmt::print(stderr, "\r{}\x1b[K",
               format_progress(label_, done_, total_, seconds, terminal_columns() - 1, unit_));
  } else {
    fmt::print(stderr, "{}\n", format_progress(label_, done_, total_, seconds, 0, unit_));
  }
  std::fflush(stderr);
}

}  // namespace mxgpt
