// How fast this machine reads memory.
#pragma once

#include <cstddef>

namespace mxgpt {

/// Bytes a second that all threads (base/thread_pool.h) together read from a buffer far larger than
/// the caches, the best of several passes: what a program that reads all its weights for every
/// token cannot pass. Takes about a second. `bytes` is the buffer's size; 0: four times the last
/// cache, at least 1 GB, but no more than a quarter of the memory that is free.
double measure_read_bandwidth(size_t bytes = 0);

}  // namespace mxgpt
