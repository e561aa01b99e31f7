// How far a long read or write has come, on stderr: a bar on a terminal, a line every ten seconds
// elsewhere, and nothing for what is done at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace mxgpt {

class Progress {
 public:
  /// `label` says what is being done: "Hashing", "Converting"; `unit` what is counted, bytes if
  /// empty.
  Progress(std::string label, uint64_t total, std::string unit = {});
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Removes the bar.
  ~Progress();

  void advance(uint64_t amount);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_, unit_;
  uint64_t total_;
  uint64_t done_ = 0;
  bool terminal_;
  bool shown_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_;  // when to show something again
};

/// Called from the thread that works, with the label and how much is done of how much.
using ProgressListener =
    std::function<void(const std::string& label, uint64_t done, uint64_t total)>;
/// From now on `listener` is told instead of stderr; an empty one: stderr again.
void set_progress_listener(ProgressListener listener);

/// "Hashing  4.20 of 12.80 GB, 1.35 GB/s, 6 s left", with a bar if `width` columns leave room for
/// one. With a unit: "Scoring  4200 of 12800 tokens, 2100 tokens/s, 4 s left".
std::string format_progress(const std::string& label, uint64_t done, uint64_t total, double seconds,
                            int width, const std::string& unit = {});

}  // namespace mxgpt
