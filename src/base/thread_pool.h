// The threads that the program computes with: one pool, which parallel loops share.
//
// A loop is over when all its items are done, not when all threads have come: a thread that is off
// its core, on a busy machine, holds nothing up unless it took an item. Between loops threads spin
// for some tens of microseconds, as long as the gaps inside a step are, and then sleep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

namespace mxgpt {

/// Threads that a parallel loop may use, the caller's included. Unless set_thread_count() was
/// called: OMP_NUM_THREADS, where that is a positive number, else default_thread_count()
/// (base/cpu_count.h).
int thread_count();

/// Between parallel loops. `count` is at least 1.
void set_thread_count(int count);

namespace detail {
using ItemCall = void (*)(const void* context, int64_t item);
void parallel_for(int64_t count, ItemCall call, const void* context);
}  // namespace detail

/// f(i) for every i in [0, count), each once, on any of the threads, in any order; returns when all
/// are done. f must not throw. Items are handed out one by one, some 20 ns each: make them worth a
/// few microseconds. Within f, another loop runs on f's thread alone; loops of different threads
/// take turns.
template <class F>
void parallel_for(int64_t count, const F& f) {
  detail::parallel_for(
      count,
      [](const void* context, int64_t item) noexcept { (*static_cast<const F*>(context))(item); },
      std::addressof(f));
}

/// f(begin, end) for consecutive ranges of `size` out of [0, count); the last may be shorter.
template <class F>
void parallel_ranges(int64_t count, int64_t size, const F& f) {
  parallel_for((count + size - 1) / size,
               [&](int64_t i) { f(i * size, std::min(count, (i + 1) * size)); });
}

}  // namespace mxgpt
