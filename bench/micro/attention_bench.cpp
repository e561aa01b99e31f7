// Attention with gpt-oss-20b's shape (64 query heads and 8 KV heads of 64) and sinks: cache bytes
// per second of its 12 full layers in decode, and FLOP/s in prefill. Arguments: context, KV format
// (index in quant/format_list.h).
#include <benchmark/benchmark.h>

#include <numeric>
#include <random>
#include <vector>

#include "backend/cpu/backend.h"

namespace mxgpt {
namespace {

constexpr int kHeads = 64, kKvHeads = 8, kHeadDim = 64, kLayers = 12;

/// A batch of rows at the end of a context, and the filled KV caches of some layers.
class Context {
 public:
  Context(int64_t context, int64_t rows, int layers, quant::Format format)
      : tokens_(rows),
        positions_(rows),
        sequences_(rows),
        pages_((context + backend::kPageTokens - 1) / backend::kPageTokens),
        q_(rows * kHeads * kHeadDim, 0.1f),
        out_(q_.size()),
        sinks_(kHeads, 0.5f),
        backend_({.rows = rows,
                  .hidden = 1,
                  .max_linear_width = 1,
                  .heads = kHeads,
                  .head_dim = kHeadDim},
                 backend::Precision::mixed) {
    std::iota(positions_.begin(), positions_.end(), static_cast<int32_t>(context - rows));
    std::iota(pages_.begin(), pages_.end(), 0);
    batch_ = {.tokens = tokens_, .positions = positions_, .sequences = sequences_};
    for (backend::PageTable& table : batch_.tables)
      table = {pages_.data(), static_cast<int64_t>(pages_.size())};
    std::mt19937 random(1);
    for (float& x : q_) x = static_cast<float>(random() % 100) / 100 - 0.5f;
    const auto bytes = static_cast<int64_t>(pages_.size()) * kKvHeads * backend::kPageTokens *
                       quant::traits(format).row_bytes(kHeadDim);
    for (int i = 0; i < 2 * layers; ++i) {
      auto& cache = caches_.emplace_back(bytes);
      // 0x2c2c is 0.065 in f16 and 2.4e-12 in bf16 and f32: normal numbers in every format.
      std::fill(cache.begin(), cache.end(), std::byte{0x2c});
    }
    for (int i = 0; i < layers; ++i)
      layers_.push_back(
          {backend::KvGroup::full, format, caches_[2 * i].data(), caches_[2 * i + 1].data()});
  }

  void attend() {
    backend_.begin_step(batch_);
    for (const backend::KvLayer& layer : layers_) {
      backend_.attention(
          {.q = q_.data(),
           .heads = kHeads,
           .kv_heads = kKvHeads,
           .head_dim = kHeadDim,
           .scale = 0.125f,
           .kv = layer,
           .sinks = {quant::Format::f32, reinterpret_cast<const std::byte*>(sinks_.data()), 1, 1,
                     kHeads},
           .out = out_.data()});
    }
  }
  double cache_bytes() const {
    return static_cast<double>(caches_.size()) * static_cast<double>(caches_[0].size());
  }

 private:
  std::vector<int32_t> tokens_, positions_, sequences_, pages_;
  backend::Batch batch_;
  std::vector<float> q_, out_, sinks_;
  std::vector<std::vector<std::byte>> caches_;
  std::vector<backend::KvLayer> layers_;
  cpu::CpuBackend backend_;
};

void decode(benchmark::State& state) {
  Context context(state.range(0), 1, kLayers, static_cast<quant::Format>(state.range(1)));
  for (auto _ : state) context.attend();
  using benchmark::Counter;
  state.counters["B/s"] = Counter(context.cache_bytes(), Counter::kIsIterationInvariantRate);
}

void prefill(benchmark::State& state) {
  const int64_t rows = 512, end = state.range(0);
  Context context(end, rows, 1, static_cast<quant::Format>(state.range(1)));
  for (auto _ : state) context.attend();
  const double seen = static_cast<double>(rows) * static_cast<double>(end - rows / 2);
  using benchmark::Counter;
  state.counters["FLOP/s"] =
      Counter(seen * kHeads * kHeadDim * 4, Counter::kIsIterationInvariantRate);
}

void sizes(benchmark::internal::Benchmark* b) {
  for (const int64_t context : {512, 8192}) {
    for (const quant::Format format :
         {quant::Format::f16, quant::Format::bf16, quant::Format::q8_0, quant::Format::f32})
      b->Args({context, static_cast<int64_t>(format)});
  }
  b->Unit(benchmark::kMillisecond)->UseRealTime()->MinTime(0.2);
}
BENCHMARK(decode)->Apply(sizes);
BENCHMARK(prefill)->Apply(sizes);

}  // namespace
}  // namespace mxgpt
