// GEMM kernels of every format: how close decoding (one token) comes to memory bandwidth, and the
// throughput of prefill (many tokens).
//   read                      streaming read of the same buffer, the upper bound of decode
//   decode/FORMAT/KERNEL      one token; weights come from memory. `of_read` is the fraction of the
//                             read bandwidth of as many threads
//   cached/FORMAT/KERNEL      one token; weights stay in the cache: the bound by computation
//   prefill/FORMAT/KERNEL/N   N tokens, rows in chunks that stay in the cache
// KERNEL is int16 or f32; a multiply-add counts as two FLOP. Select with --benchmark_filter=…, and
// set MXGPT_ISA=scalar for the scalar code.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "quant/format.h"

namespace mxgpt {
namespace {

constexpr int64_t kBufferBytes = int64_t{1} << 30;
constexpr int64_t kRows = 2880;      // gpt-oss
constexpr int64_t kChunkRows = 128;  // the size that the CPU backend dispatches to a thread
constexpr int kMaxTokens = 512;

/// 2880 as in gpt-oss, or the next multiple of 256 for blocks of 256.
int64_t k_of(const quant::FormatTraits& t) {
  return t.block_elements == 256 ? 3072 : 2880;
}

/// Valid weights of any format: MXFP4 scales and f16 fields read 0x2f as moderate values.
const std::byte* weights() {
  static const std::vector<std::byte> buffer(kBufferBytes, std::byte{0x2f});
  return buffer.data();
}

struct Activations {
  std::vector<float> x = std::vector<float>(kMaxTokens * 3072, 0.5f);
  std::vector<int16_t> q = std::vector<int16_t>(x.size(), 7777);
  std::vector<float> scale = std::vector<float>(x.size() / 32, 0.01f),
                     sum = std::vector<float>(x.size() / 16, 0.2f);
  std::vector<int32_t> total = std::vector<int32_t>(sum.size(), 16 * 7777);
  std::vector<kernels::OutlierSplitGroup> bytes =
      std::vector<kernels::OutlierSplitGroup>(scale.size());
};

const Activations& activations() {
  static const Activations a;
  return a;
}

kernels::GemmArgs tile_of(quant::Format format, const std::byte* first_row, int64_t rows,
                          int64_t tokens, float* out) {
  const quant::FormatTraits& t = quant::traits(format);
  const bool int8 = kernels::gemm_kernels(format).int8_activations;
  const Activations& a = activations();
  return {.weights = first_row,
          .row_bytes = t.row_bytes(k_of(t)),
          .rows = rows,
          .k = k_of(t),
          .x = a.x.data(),
          .x_int16 = {.q = a.q.data(),
                      .scale = a.scale.data(),
                      .sum = a.sum.data(),
                      .q_sum = a.total.data(),
                      .outlier_split = int8 ? a.bytes.data() : nullptr},
          .row_indices = nullptr,
          .tokens = tokens,
          .out = out,
          .out_stride = rows};
}

using Matmul = void (*)(const kernels::GemmArgs&);

/// Reads one of `parts` equal parts of the buffer.
void read_part(int64_t part, int64_t parts) {
  const int64_t words = kBufferBytes / parts / 8;
  const auto* data = reinterpret_cast<const uint64_t*>(weights()) + part * words;
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= words; i += 8) {
    __builtin_prefetch(data + i + 512);  // across pages, where the hardware prefetcher stops
    for (int j = 0; j < 8; ++j) sums[j] += data[i + j];
  }
  benchmark::DoNotOptimize(sums);
}

void read(benchmark::State& state) {
  for (auto _ : state) read_part(state.thread_index(), state.threads());
  state.SetBytesProcessed(state.iterations() * (kBufferBytes / state.threads()));
}

/// Bytes per second read by `threads` threads, the best of three runs.
double read_speed(int threads) {
  static std::map<int, double> known;
  double& best = known[threads];
  for (int i = 0; best == 0 || i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(read_part, t, threads);
    read_part(0, threads);
    for (std::thread& other : others) other.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kBufferBytes) / seconds.count());
  }
  return best;
}

benchmark::Counter rate(double amount) {
  return {amount, benchmark::Counter::kIsRate};
}

/// An iteration multiplies one weight of kRows rows; the next continues behind it.
void decode(benchmark::State& state, quant::Format format, Matmul matmul) {
  const quant::FormatTraits& t = quant::traits(format);
  const int64_t bytes = kRows * t.row_bytes(k_of(t));
  const int64_t part = kBufferBytes / state.threads();
  const std::byte* first = weights() + part / 64 * 64 * state.thread_index();
  std::vector<float> out(kRows);
  int64_t at = 0;
  for (auto _ : state) {
    matmul(tile_of(format, first + at, kRows, 1, out.data()));
    benchmark::DoNotOptimize(out.data());
    at += bytes;
    if (at + bytes > part) at = 0;
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  const auto weights_read = static_cast<double>(kRows * k_of(t) * state.iterations());
  state.counters["FLOP/s"] = rate(2 * weights_read);
  const auto bytes_read = static_cast<double>(bytes * state.iterations());
  if (state.thread_index() == 0) {
    const double all = bytes_read * state.threads();
    state.counters["of_read"] = rate(all / read_speed(state.threads()));
  }
}

void cached(benchmark::State& state, quant::Format format, Matmul matmul) {
  const quant::FormatTraits& t = quant::traits(format);
  std::vector<float> out(kChunkRows);
  for (auto _ : state) {
    matmul(tile_of(format, weights(), kChunkRows, 1, out.data()));
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * kChunkRows * t.row_bytes(k_of(t)));
}

void prefill(benchmark::State& state, quant::Format format, Matmul matmul) {
  const quant::FormatTraits& t = quant::traits(format);
  const int64_t tokens = state.range(0);
  std::vector<float> out(kChunkRows * tokens);
  int64_t row = 0;
  for (auto _ : state) {
    matmul(tile_of(format, weights() + row * t.row_bytes(k_of(t)), kChunkRows, tokens, out.data()));
    benchmark::DoNotOptimize(out.data());
    row = (row + kChunkRows) % kRows;
  }
  state.counters["FLOP/s"] =
      rate(2.0 * kChunkRows * k_of(t) * static_cast<double>(tokens * state.iterations()));
}

void register_all() {
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  benchmark::RegisterBenchmark("read", read)->Threads(1)->Threads(threads)->UseRealTime();
  for (int i = 0; i < quant::kFormatCount; ++i) {
    const quant::Format format = static_cast<quant::Format>(i);
    const kernels::GemmKernels& k = kernels::gemm_kernels(format);
    for (const auto& [kind, matmul] :
         {std::pair{"int16", k.matmul_int16}, std::pair{"f32", k.matmul_f32}}) {
      if (!matmul) continue;
      const std::string name = std::string(quant::traits(format).name) + "/" + kind;
      benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, format, matmul)
          ->Threads(1)
          ->Threads(threads)
          ->UseRealTime();
      benchmark::RegisterBenchmark(("cached/" + name).c_str(), cached, format, matmul);
      benchmark::RegisterBenchmark(("prefill/" + name).c_str(), prefill, format, matmul)
          ->Arg(4)
          ->Arg(64)
          ->Arg(kMaxTokens);
    }
  }
}

const bool registered = (register_all(), true);

}  // namespace
}  // namespace mxgpt
