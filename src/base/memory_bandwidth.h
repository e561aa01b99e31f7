// Measures memory read bandwidth.
#pragma once

#include <cstddef>

namespace mxgpt {

/// Bytes per second that all threads (base/thread_pool.h) together read from a buffer far larger
/// than the caches, the best of several passes: an upper bound for a program that reads all its
/// weights per token. Takes about a second. `bytes` is the buffer size; 0 means four times the
/// last-level cache, at least 1 GB and at most a quarter of the free memory.
double measure_read_bandwidth(size_t bytes = 0);

}  // namespace mxgpt
