#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/cpu_count.h"

namespace mxgpt {

namespace {

/// Longer than the gaps between loops of a step, short enough not to disturb other processes.
constexpr std::chrono::microseconds kSpinTime{50};

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

thread_local bool inside_parallel_for = false;  // nested loops run on this thread alone

class ThreadPool {
 public:
  /// `threads` includes the one that calls run().
  explicit ThreadPool(int threads) : may_spin_(threads <= usable_cpus()) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    publish(generation_.load(std::memory_order_relaxed) + 1, 0);
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// One caller at a time.
  void run(uint32_t count, detail::ItemCall call, const void* context) {
    call_.store(call, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    count_.store(count, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
    publish(generation, count);
    run_items(generation);
    for (uint32_t done = done_.load(std::memory_order_acquire); done != count;
         done = done_.load(std::memory_order_acquire)) {
      if (!spin_while(done_, done)) done_.wait(done, std::memory_order_acquire);
    }
  }

 private:
  void publish(uint32_t generation, uint32_t count) {
    remaining_.store(uint64_t{generation} << 32 | count, std::memory_order_release);
    generation_.store(generation);  // sequentially consistent, so that notify cannot miss a thread
                                    // that starts to wait
    generation_.notify_all();
  }

  /// Returns true once `value` differs from `old`, false after the spin time.
  bool spin_while(const std::atomic<uint32_t>& value, uint32_t old) const {
    if (!may_spin_) return false;
    const auto until = std::chrono::steady_clock::now() + kSpinTime;
    do {
      for (int i = 0; i < 16; ++i) {
        if (value.load(std::memory_order_acquire) != old) return true;
        cpu_relax();
      }
    } while (std::chrono::steady_clock::now() < until);
    return false;
  }

  void work() {
    inside_parallel_for = true;
    for (uint32_t seen = 0;;) {
      if (!spin_while(generation_, seen)) generation_.wait(seen, std::memory_order_acquire);
      seen = generation_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      run_items(seen);
    }
  }

  /// Claims and runs items of this generation's loop until none is left.
  void run_items(uint32_t generation) {
    uint32_t finished = 0, count = 0;
    uint64_t remaining = remaining_.load(std::memory_order_acquire);
    while (remaining >> 32 == generation && static_cast<uint32_t>(remaining) > 0) {
      // run() changes these only after all items are done. They belong to this loop if the exchange
      // succeeds, because an item of it was still unclaimed.
      const detail::ItemCall call = call_.load(std::memory_order_relaxed);
      const void* context = context_.load(std::memory_order_relaxed);
      count = count_.load(std::memory_order_relaxed);
      if (!remaining_.compare_exchange_weak(remaining, remaining - 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire))
        continue;
      call(context, count - static_cast<uint32_t>(remaining));
      ++finished;
      remaining = remaining_.load(std::memory_order_acquire);
    }
    // The loop cannot end before this addition, so `count` belongs to it.
    if (finished && done_.fetch_add(finished) + finished == count) done_.notify_one();
  }

  const bool may_spin_;
  std::atomic<detail::ItemCall> call_{};
  std::atomic<const void*> context_{};
  std::atomic<uint32_t> count_{0};
  /// Upper half: generation of the loop. Lower half: unclaimed items. Decrementing it claims an
  /// item, and only of the generation that the thread has seen.
  alignas(64) std::atomic<uint64_t> remaining_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};  ///< waited on by idle threads
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

std::mutex pool_mutex;                   // guards pool; held by the running loop
std::unique_ptr<ThreadPool> pool;        // created by the first loop
std::atomic<int> configured_threads{0};  // 0: undecided

int initial_thread_count() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    if (const int count = std::atoi(text); count > 0) return std::min(count, kMaxThreads);
  }
  return default_thread_count();
}

}  // namespace

int thread_count() {
  if (const int count = configured_threads.load()) return count;
  int undecided = 0;
  configured_threads.compare_exchange_strong(undecided, initial_thread_count());
  return configured_threads.load();
}

void set_thread_count(int count) {
  MXGPT_CHECK(count >= 1 && count <= kMaxThreads && !inside_parallel_for, "{} threads", count);
  configured_threads.store(count);
}

void detail::parallel_for(int64_t count, detail::ItemCall call, const void* context) {
  const int threads = thread_count();
  if (count <= 1 || threads == 1 || inside_parallel_for) {
    for (int64_t i = 0; i < count; ++i) call(context, i);
    return;
  }
  MXGPT_CHECK(count <= UINT32_MAX, "{} items", count);
  const std::scoped_lock turn(pool_mutex);
  if (!pool || pool->threads() != threads) {
    pool.reset();
    pool = std::make_unique<ThreadPool>(threads);
  }
  inside_parallel_for = true;
  pool->run(static_cast<uint32_t>(count), call, context);
  inside_parallel_for = false;
}

}  // namespace mxgpt
