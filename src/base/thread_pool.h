// The compute threads: one pool, shared by all parallel loops.
//
// A loop ends when all items are done, not when all threads have arrived. A thread that the system
// has descheduled delays the loop only if it holds an item. Between loops, threads spin for tens of
// microseconds, the typical gap within a step, and then sleep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

namespace mxgpt {

/// Threads that a parallel loop may use, including the caller's. Unless set_thread_count() was
/// called: OMP_NUM_THREADS if it is a positive number, otherwise default_thread_count()
/// (base/cpu_count.h).
int thread_count();

/// Call between parallel loops only. `count` is at least 1.
void set_thread_count(int count);

namespace detail {
using ItemCall = void (*)(const void* context, int64_t item);
void parallel_for(int64_t count, ItemCall call, const void* context);
}  // namespace detail

/// Calls f(i) once for every i in [0, count), on any thread and in any order, and returns when all
/// are done. f must not throw. Dispatching an item costs about 20 ns, so an item should take a few
/// microseconds. A nested loop runs on the calling thread alone; loops of different threads take
/// turns.
template <class F>
void parallel_for(int64_t count, const F& f) {
  detail::parallel_for(
      count,
      [](const void* context, int64_t item) noexcept { (*static_cast<const F*>(context))(item); },
      std::addressof(f));
}

/// Calls f(begin, end) for consecutive ranges of `size` in [0, count); the last may be shorter.
template <class F>
void parallel_ranges(int64_t count, int64_t size, const F& f) {
  parallel_for((count + size - 1) / size,
               [&](int64_t i) { f(i * size, std::min(count, (i + 1) * size)); });
}

}  // namespace mxgpt
