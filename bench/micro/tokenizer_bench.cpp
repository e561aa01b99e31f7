// The tokenizer with the real gpt-oss vocabulary: loading, encoding and decoding.
// bench/tokenizer.py alternates it with the `tokenizers` package. MXGPT_BENCH_TOKENIZER and
// MXGPT_BENCH_TEXTS (one JSON string per line) name the input files.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt {
namespace {

std::string setting(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value ? value : fallback;
}

std::string tokenizer_path() {
  return setting("MXGPT_BENCH_TOKENIZER",
                 MXGPT_ROOT "/build/release/fixtures/gpt-oss-tokenizer/tokenizer.json");
}

const text::Tokenizer& tokenizer() {
  static const auto loaded = text::Tokenizer::load(tokenizer_path());
  return *loaded;
}

const std::vector<std::string>& texts() {
  static const auto loaded = [] {
    const std::string path = setting("MXGPT_BENCH_TEXTS", "");
    std::ifstream file(path.empty() ? MXGPT_ROOT "/bench/micro/tokenizer_bench.cpp" : path);
    std::vector<std::string> all;
    for (std::string line; std::getline(file, line);) {
      if (path.empty())
        all.push_back(line);
      else
        all.emplace_back(json::parse(line, path).as_string());
    }
    return all;
  }();
  return loaded;
}

void set_bytes(benchmark::State& state) {
  size_t bytes = 0;
  for (const std::string& text : texts()) bytes += text.size();
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
}

void load(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(text::Tokenizer::load(tokenizer_path()));
}
BENCHMARK(load)->Unit(benchmark::kMillisecond);

void encode(benchmark::State& state) {
  size_t tokens = 0;
  for (auto _ : state) {
    tokens = 0;
    for (const std::string& text : texts()) tokens += tokenizer().encode(text).size();
  }
  set_bytes(state);
  state.counters["tokens"] = static_cast<double>(tokens);
}
BENCHMARK(encode)->Unit(benchmark::kMillisecond);

void decode(benchmark::State& state) {
  std::vector<std::vector<text::TokenId>> ids;
  for (const std::string& text : texts()) ids.push_back(tokenizer().encode(text));
  for (auto _ : state) {
    for (const auto& each : ids) benchmark::DoNotOptimize(tokenizer().decode(each));
  }
  set_bytes(state);
}
BENCHMARK(decode)->Unit(benchmark::kMillisecond);

/// A repeated unit of range(0) kilobytes. The time per kilobyte must not depend on the length.
void encode_run(benchmark::State& state, const char* unit) {
  std::string text;
  while (text.size() < static_cast<size_t>(state.range(0)) << 10) text += unit;
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer().encode(text));
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK_CAPTURE(encode_run, letters, "a")->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode_run, blanks, " ")->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode_run, digits, "7")->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode_run, marks, "\xCC\x81")->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mxgpt
