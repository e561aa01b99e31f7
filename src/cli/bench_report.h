// Results of `mxgpt bench`, and their output formats.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mxgpt::cli {

struct BenchResult {
  bool decode = false;  ///< else prefill
  int64_t tokens = 0;   ///< prompt length, or tokens decoded per sequence
  int64_t depth = 0;    ///< tokens already in the context
  int64_t batch = 1;    ///< sequences decoded together
  int threads = 1;
  std::string kv;              ///< "F16"
  std::vector<double> rates;   ///< tok/s per repetition, over all sequences
  size_t bytes_per_token = 0;  ///< read per decoded token; 0 if unknown

  double median() const;
  double min_rate() const;
  double max_rate() const;
};

struct BenchReport {
  std::string version, date, cpu, isa;
  std::string model, architecture;
  size_t model_bytes = 0;           ///< size of all weights
  int64_t tokens_per_step = 0;      ///< prompt tokens per step
  std::map<int, double> bandwidth;  ///< bytes/s by thread count; empty: not measured
  std::vector<BenchResult> results;

  /// Fraction of the memory bandwidth that a result reaches; 0 if unknown.
  double bandwidth_share(const BenchResult& result) const;
};

enum class BenchFormat { table, csv, json, markdown };
std::string format_report(const BenchReport& report, BenchFormat format);

/// Processor name from /proc/cpuinfo; "unknown" if it is not there.
std::string cpu_name();

}  // namespace mxgpt::cli
