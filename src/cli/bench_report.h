// What `mxgpt bench` found, and its four ways of saying it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mxgpt::cli {

struct BenchResult {
  bool decode = false;  ///< else prefill
  int64_t tokens = 0;   ///< of the prompt, or decoded one after the other
  int64_t depth = 0;    ///< tokens in the context before
  int64_t batch = 1;    ///< sequences decoded together
  int threads = 1;
  std::string kv;              ///< "F16"
  std::vector<double> rates;   ///< tok/s of each repetition, of all sequences together
  size_t bytes_per_token = 0;  ///< read for one token; 0 where it depends on the tokens

  double median() const;
  double min_rate() const;
  double max_rate() const;
};

struct BenchReport {
  std::string version, date, cpu, isa;
  std::string model, architecture;
  size_t model_bytes = 0;           ///< of all weights
  int64_t tokens_per_step = 0;      ///< prompt tokens a step
  std::map<int, double> bandwidth;  ///< bytes/s that so many threads read; empty: not measured
  std::vector<BenchResult> results;

  /// Of the bandwidth that a result reaches; 0 where unknown.
  double bandwidth_share(const BenchResult& result) const;
};

enum class BenchFormat { table, csv, json, markdown };
std::string format_report(const BenchReport& report, BenchFormat format);

/// The processor as its maker names it; "unknown" where the system does not say.
std::string cpu_name();

}  // namespace mxgpt::cli
