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
constexpr auto kFirstBar = 300ms;
constexpr auto kNextBar = 100ms;
constexpr auto kLine = 10s;

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string time_text(double seconds) {
  const auto s = static_cast<int64_t>(std::min(std::ceil(seconds), 359999.0));  // 99:59:59
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

struct Listening {
  std::mutex mutex;
  ProgressListener listener;
};

Listening& listening() {
  static Listening one;
  return one;
}

/// Whether somebody listens.
bool tell(const std::string& label, uint64_t done, uint64_t total) {
  const std::lock_guard lock(listening().mutex);
  if (listening().listener) listening().listener(label, done, total);
  return bool(listening().listener);
}

}  // namespace

void listen_to_progress(ProgressListener listener) {
  const std::lock_guard lock(listening().mutex);
  listening().listener = std::move(listener);
}

std::string progress_line(const std::string& label, uint64_t done, uint64_t total, double seconds,
                          int width, const std::string& unit) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text =
      unit.empty()
          ? fmt::format("{:.2f} of {:.2f} GB, {:.2f} GB/s", static_cast<double>(done) / 1e9,
                        static_cast<double>(total) / 1e9, rate / 1e9)
          : fmt::format("{} of {} {}, {:.0f} {}/s", done, total, unit, rate, unit);
  if (rate > 0 && done < total) {
    text += fmt::format(", {} left", time_text(static_cast<double>(total - done) / rate));
  }
  // The widest text, so that the bar keeps its place while the numbers change.
  constexpr int kTextColumns = 46;
  const int room = width - static_cast<int>(label.size()) - kTextColumns - 4;
  const int bar = std::min(room, 40);
  if (bar < 10) return fmt::format("{} {}", label, text);
  const double share =
      total > 0 ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total)) : 1;
  const int filled = static_cast<int>(share * bar);
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
  next_ += terminal_ ? Clock::duration(kFirstBar) : Clock::duration(kLine);
  tell(label_, 0, total_);
}

Progress::~Progress() {
  if (drawn_ && terminal_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::advance(uint64_t amount) {
  done_ += amount;
  if (tell(label_, done_, total_)) return;
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now;
  next_ += terminal_ ? Clock::duration(kNextBar) : Clock::duration(kLine);
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  if (terminal_) {
    // One column short of the edge: a full line would wrap.
    fmt::print(stderr, "\r{}\x1b[K",
               progress_line(label_, done_, total_, seconds, terminal_columns() - 1, unit_));
  } else {
    fmt::print(stderr, "{}\n", progress_line(label_, done_, total_, seconds, 0, unit_));
  }
  std::fflush(stderr);
}

}  // namespace mxgpt
