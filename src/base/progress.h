// Progress of long operations on stderr: a bar on a terminal, otherwise a line every ten seconds.
// Short operations print nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace mxgpt {

class Progress {
 public:
  /// `label` names the operation ("Hashing"), `unit` the things counted; empty means bytes.
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
  Clock::time_point next_;  // time of the next update
};

/// Called on the thread that does the work, with the label, the amount done and the total.
using ProgressListener =
    std::function<void(const std::string& label, uint64_t done, uint64_t total)>;
/// Reports progress to `listener` instead of stderr; an empty listener restores stderr.
void set_progress_listener(ProgressListener listener);

/// "Hashing 4.20 of 12.80 GB, 1.35 GB/s, 6 s left", with a bar if it fits in `width` columns. With
/// a unit: "Scoring 4200 of 12800 tokens, 2100 tokens/s, 4 s left".
std::string format_progress(const std::string& label, uint64_t done, uint64_t total, double seconds,
                            int width, const std::string& unit = {});

}  // namespace mxgpt
