#include "base/memory_bandwidth.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "base/arena.h"
#include "base/thread_pool.h"

namespace mxgpt {

namespace {

using Lane = uint64_t __attribute__((vector_size(64)));

size_t default_buffer_bytes() {
  const auto ask = [](int name) { return static_cast<size_t>(std::max(0L, ::sysconf(name))); };
  const size_t free = ask(_SC_AVPHYS_PAGES) * ask(_SC_PAGESIZE);
  return std::min(std::max<size_t>(1'000'000'000, 4 * ask(_SC_LEVEL3_CACHE_SIZE)), free / 4);
}

}  // namespace

double measure_read_bandwidth(size_t bytes) {
  constexpr int64_t kChunk = 1 << 20;
  constexpr int kPasses = 4;
  const auto chunks =
      static_cast<int64_t>(std::max<size_t>(bytes ? bytes : default_buffer_bytes(), kChunk)) /
      kChunk;
  const PageMemory buffer(static_cast<size_t>(chunks * kChunk), "the memory bandwidth measurement");
  // Written first: unwritten pages all map to the zero page.
  parallel_for(chunks, [&](int64_t i) { std::memset(buffer.data() + i * kChunk, 1, kChunk); });

  std::atomic<uint64_t> sum = 0;  // keeps the reads from being optimized away
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel_for(chunks, [&](int64_t i) {
      const auto* lanes = reinterpret_cast<const Lane*>(buffer.data() + i * kChunk);
      Lane sums[4] = {};
      for (size_t at = 0; at < kChunk / sizeof(Lane); at += 4) {
        for (size_t lane = 0; lane < 4; ++lane) sums[lane] += lanes[at + lane];
      }
      const Lane all = sums[0] + sums[1] + sums[2] + sums[3];
      sum += all[0] + all[1] + all[2] + all[3] + all[4] + all[5] + all[6] + all[7];
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(chunks * kChunk) / seconds.count());
  }
  return sum ? best : 0;
}

}  // namespace mxgpt
