#include "cli/bench_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "base/check.h"
#include "base/escape.h"
#include "base/json.h"

namespace mxgpt::cli {

namespace {

std::string rate(double value) {
  return fmt::format("{:.{}f}", value, value >= 1000 ? 0 : value >= 100 ? 1 : 2);
}

/// "12.11 GB".
std::string gigabytes(double bytes) {
  return fmt::format("{:.{}f} GB", bytes / 1e9, bytes >= 10e9 ? 1 : bytes >= 1e8 ? 2 : 4);
}

std::vector<std::string> bandwidth_texts(const BenchReport& report) {
  std::vector<std::string> texts;
  for (const auto& [threads, bytes] : report.bandwidth)
    texts.push_back(fmt::format("{}/s with {} threads", gigabytes(bytes), threads));
  return texts;
}

/// Facts common to all results, as name and value.
std::vector<std::pair<std::string, std::string>> summary_lines(const BenchReport& report) {
  std::vector<std::pair<std::string, std::string>> lines{
      {"mxgpt", fmt::format("{}, {}", report.version, report.date)},
      {"processor", fmt::format("{}, kernels of {}", escape_for_terminal(report.cpu), report.isa)},
      {"model",
       fmt::format("{}, {}, {} of weights", escape_for_terminal(report.model), report.architecture,
                   gigabytes(static_cast<double>(report.model_bytes)))}};
  if (!report.bandwidth.empty())
    lines.emplace_back("memory", fmt::format("reads {}", fmt::join(bandwidth_texts(report), ", ")));
  return lines;
}

constexpr std::string_view kHeadings[] = {"work",  "depth",   "batch",          "threads",     "kv",
                                          "tok/s", "min–max", "read per token", "of bandwidth"};

std::vector<std::string> cells(const BenchReport& report, const BenchResult& r) {
  const double bandwidth_share = report.bandwidth_share(r);
  return {fmt::format("{} {}", r.decode ? "decode" : "prefill", r.tokens),
          fmt::format("{}", r.depth),
          fmt::format("{}", r.batch),
          fmt::format("{}", r.threads),
          r.kv,
          rate(r.median()),
          fmt::format("{}–{}", rate(r.min_rate()), rate(r.max_rate())),
          r.bytes_per_token ? gigabytes(static_cast<double>(r.bytes_per_token)) : "",
          bandwidth_share ? fmt::format("{:.0f}%", 100 * bandwidth_share) : ""};
}

/// Display width: the number of code points, as fmt counts them.
size_t display_width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string table(const BenchReport& report) {
  std::string out;
  for (const auto& [name, value] : summary_lines(report))
    out += fmt::format("{:<10} {}\n", name, value);
  std::vector<std::vector<std::string>> rows{{std::begin(kHeadings), std::end(kHeadings)}};
  for (const BenchResult& r : report.results) rows.push_back(cells(report, r));
  out += '\n';
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, display_width(other[column]));
      line += column == 0 ? fmt::format("{:<{}}", row[column], width)
                          : fmt::format("  {:>{}}", row[column], width);
    }
    out += line + '\n';
  }
  return out;
}

std::string markdown(const BenchReport& report) {
  std::string out;
  for (const auto& [name, value] : summary_lines(report))
    out += fmt::format("- {}: {}\n", name, value);
  out += fmt::format("\n| {} |\n|", fmt::join(kHeadings, " | "));
  for (size_t i = 0; i < std::size(kHeadings); ++i) out += i ? " ---: |" : " --- |";
  out += '\n';
  for (const BenchResult& r : report.results)
    out += fmt::format("| {} |\n", fmt::join(cells(report, r), " | "));
  return out;
}

std::string csv(const BenchReport& report) {
  std::string out =
      "work,tokens,depth,batch,threads,kv,median,min,max,bytes_per_token,bandwidth,isa,version\n";
  for (const BenchResult& r : report.results) {
    const auto found = report.bandwidth.find(r.threads);
    out += fmt::format("{},{},{},{},{},{},{:.4f},{:.4f},{:.4f},{},{:.0f},{},{}\n",
                       r.decode ? "decode" : "prefill", r.tokens, r.depth, r.batch, r.threads, r.kv,
                       r.median(), r.min_rate(), r.max_rate(), r.bytes_per_token,
                       found == report.bandwidth.end() ? 0 : found->second, report.isa,
                       report.version);
  }
  return out;
}

std::string json_text(const BenchReport& report) {
  json::array bandwidth, results;
  for (const auto& [threads, bytes] : report.bandwidth)
    bandwidth.push_back(json::object{{"threads", threads}, {"bytes_per_second", bytes}});
  for (const BenchResult& r : report.results) {
    const double bandwidth_share = report.bandwidth_share(r);
    results.push_back(
        json::object{{"work", r.decode ? "decode" : "prefill"},
                     {"tokens", r.tokens},
                     {"depth", r.depth},
                     {"batch", r.batch},
                     {"threads", r.threads},
                     {"kv", r.kv},
                     {"rates", json::array(r.rates.begin(), r.rates.end())},
                     {"median", r.median()},
                     {"bytes_per_token",
                      r.bytes_per_token ? json::value(r.bytes_per_token) : json::value(nullptr)},
                     {"bandwidth_share",
                      bandwidth_share ? json::value(bandwidth_share) : json::value(nullptr)}});
  }
  return json::serialize(json::object{{"version", report.version},
                                      {"date", report.date},
                                      {"cpu", report.cpu},
                                      {"isa", report.isa},
                                      {"model", report.model},
                                      {"architecture", report.architecture},
                                      {"model_bytes", report.model_bytes},
                                      {"tokens_per_step", report.tokens_per_step},
                                      {"bandwidth", std::move(bandwidth)},
                                      {"results", std::move(results)}}) +
         "\n";
}

}  // namespace

double BenchResult::median() const {
  std::vector<double> sorted = rates;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double BenchResult::min_rate() const {
  return *std::min_element(rates.begin(), rates.end());
}

double BenchResult::max_rate() const {
  return *std::max_element(rates.begin(), rates.end());
}

double BenchReport::bandwidth_share(const BenchResult& result) const {
  const auto found = bandwidth.find(result.threads);
  if (found == bandwidth.end()) return 0;
  return result.median() * static_cast<double>(result.bytes_per_token) / found->second;
}

std::string format_report(const BenchReport& report, BenchFormat format) {
  switch (format) {
    case BenchFormat::table:
      return table(report);
    case BenchFormat::csv:
      return csv(report);
    case BenchFormat::json:
      return json_text(report);
    case BenchFormat::markdown:
      return markdown(report);
  }
  MXGPT_CHECK(false, "format {}", static_cast<int>(format));
  return {};
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace mxgpt::cli
