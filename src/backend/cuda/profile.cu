#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <vector>

#include "backend/cuda/error.cuh"
#include "backend/cuda/profile.h"

namespace mxgpt::cuda {

namespace {

using Clock = std::chrono::steady_clock;

struct Span {
  const char* name;
  cudaEvent_t begin, end;
};

struct Times {
  int64_t calls = 0;
  double total = 0, most = 0;  ///< microseconds
};

struct Change {
  double seconds;
  const char* kind;
  int64_t bytes, held, free;
};

/// One per process. Times one stream at a time; logs memory from any thread.
struct Profile {
  std::mutex mutex;
  Clock::time_point start = Clock::now();
  std::vector<cudaEvent_t> unused;
  std::vector<Span> spans;  ///< not read yet
  std::map<std::string, Times> times;
  std::vector<Change> changes;
  std::map<std::string, int64_t> held;

  cudaEvent_t event() {
    if (unused.empty()) {
      cudaEvent_t made = nullptr;
      check(cudaEventCreate(&made), "an event");
      return made;
    }
    const cudaEvent_t taken = unused.back();
    unused.pop_back();
    return taken;
  }
};

Profile* profile = nullptr;

}  // namespace

void start_profile() {
  static Profile only;
  profile = &only;
}

bool is_profiling() {
  return profile != nullptr;
}

ScopedTimer::ScopedTimer(const char* name, CudaStream stream)
    : stream_(stream), active_(profile != nullptr) {
  if (!active_) return;
  nvtxRangePushA(name);
  const std::lock_guard lock(profile->mutex);
  profile->spans.push_back({name, profile->event(), profile->event()});
  cudaEventRecord(profile->spans.back().begin, stream_);
}

ScopedTimer::~ScopedTimer() {
  if (!active_) return;
  const std::lock_guard lock(profile->mutex);
  cudaEventRecord(profile->spans.back().end, stream_);
  nvtxRangePop();
}

void collect_timings() {
  if (!profile) return;
  const std::lock_guard lock(profile->mutex);
  for (const Span& span : profile->spans) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, span.begin, span.end), "an event's time");
    Times& times = profile->times[span.name];
    ++times.calls;
    times.total += milliseconds * 1e3;
    times.most = std::max(times.most, milliseconds * 1e3);
    profile->unused.insert(profile->unused.end(), {span.begin, span.end});
  }
  profile->spans.clear();
}

void note_memory(const char* kind, int64_t bytes) {
  if (!profile) return;
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  const std::lock_guard lock(profile->mutex);
  const int64_t held = profile->held[kind] += bytes;
  const std::chrono::duration<double> at = Clock::now() - profile->start;
  profile->changes.push_back({at.count(), kind, bytes, held, static_cast<int64_t>(free)});
}

std::string profile_report() {
  if (!profile) return {};
  const std::lock_guard lock(profile->mutex);
  double all = 0;
  std::vector<std::pair<std::string, Times>> rows(profile->times.begin(), profile->times.end());
  for (const auto& [name, times] : rows) all += times.total;
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.total > b.second.total; });
  std::string out = "kernel,calls,total_us,mean_us,most_us,share\n";
  // nvcc does not compile fmt's checked formats.
  const auto line = [&out](const char* format, auto... values) {
    char text[256];
    std::snprintf(text, sizeof text, format, values...);
    out += text;
  };
  for (const auto& [name, t] : rows) {
    line("%s,%lld,%.1f,%.2f,%.2f,%.4f\n", name.c_str(), static_cast<long long>(t.calls), t.total,
         t.total / static_cast<double>(t.calls), t.most, t.total / all);
  }
  out += "\nseconds,memory,bytes,held,free_on_gpu\n";
  for (const Change& c : profile->changes)
    line("%.6f,%s,%lld,%lld,%lld\n", c.seconds, c.kind, static_cast<long long>(c.bytes),
         static_cast<long long>(c.held), static_cast<long long>(c.free));
  return out;
}

}  // namespace mxgpt::cuda
