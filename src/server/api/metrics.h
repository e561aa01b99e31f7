// Counters of /metrics, in Prometheus text format.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include "engine/engine.h"

namespace mxgpt::server {

/// Cumulative buckets, from the time of one token to that of a long response, in seconds.
class Histogram {
 public:
  void record(double seconds);
  void write(std::string& out, const char* name, const char* help) const;

 private:
  static constexpr std::array<double, 14> kBounds = {.001, .0025, .005, .01, .025, .05, .1,
                                                     .25,  .5,    1,    2.5, 5,    10,  60};
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

/// Thread-safe.
class Metrics {
 public:
  void record_choice(const engine::ChoiceEnd& end);
  void record_response(const std::string& path, int status);
  /// A value that another component counts.
  struct Gauge {
    const char* name;
    const char* help;
    int64_t value;
  };
  /// `engine` may be null while the model loads.
  std::string render(const engine::EngineStatus* engine, std::span<const Gauge> gauges) const;

 private:
  mutable std::mutex mutex_;
  Histogram time_to_first_token_, time_per_token_, queue_time_;
  std::map<std::pair<std::string, int>, int64_t> responses_;  // by route and status
};

}  // namespace mxgpt::server
