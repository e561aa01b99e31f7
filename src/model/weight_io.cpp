#include "model/weight_io.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/arena.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/thread_pool.h"

namespace mxgpt::model {

namespace {

/// Calls f(tensor, offset, size) for each chunk of each tensor, on several threads; disks need a
/// queue depth above one, too. Rethrows the first exception.
void for_each_chunk(std::string label, std::span<const std::span<const std::byte>> tensors,
                    const std::function<void(size_t tensor, size_t offset, size_t size)>& f) {
  constexpr size_t kChunkBytes = 8 << 20;
  constexpr int kMinThreads = 4;
  struct Chunk {
    size_t tensor, offset, size;
  };
  std::vector<Chunk> chunks;
  uint64_t total = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    total += tensors[t].size();
    for (size_t at = 0; at < tensors[t].size(); at += kChunkBytes)
      chunks.push_back({t, at, std::min(kChunkBytes, tensors[t].size() - at)});
  }
  Progress progress(std::move(label), total);
  std::mutex mutex;  // of progress and error
  std::exception_ptr error;
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next++) < chunks.size();) {
      try {
        f(chunks[i].tensor, chunks[i].offset, chunks[i].size);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = chunks.size();
        return;
      }
      const std::lock_guard lock(mutex);
      progress.advance(chunks[i].size);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = std::max(thread_count(), kMinThreads); i > 0; --i) threads.emplace_back(work);
  }
  if (error) std::rethrow_exception(error);
}

double gigabytes(uint64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

}  // namespace

void read_into_memory(
    std::span<HostTensor* const> tensors,
    const std::function<const MappedFile*(std::span<const std::byte> bytes)>& file_of) {
  const auto allocate = [&](Arena& arena) {
    std::vector<std::span<std::byte>> destinations;
    for (const HostTensor* tensor : tensors)
      destinations.push_back(arena.allocate<std::byte>(static_cast<int64_t>(tensor->bytes.size())));
    return destinations;
  };
  Arena measured;
  allocate(measured);
  const auto memory = std::make_shared<Arena>(measured.used(), "the weights");
  const std::vector<std::span<std::byte>> destinations = allocate(*memory);

  std::vector<std::span<const std::byte>> sources;
  std::vector<const MappedFile*> files;
  for (const HostTensor* tensor : tensors) {
    sources.push_back(tensor->bytes);
    files.push_back(file_of(tensor->bytes));
  }
  for_each_chunk("Reading", sources, [&](size_t tensor, size_t offset, size_t size) {
    files[tensor]->read(sources[tensor].subspan(offset, size), &destinations[tensor][offset]);
  });
  for (size_t t = 0; t < tensors.size(); ++t) {
    tensors[t]->bytes = destinations[t];
    tensors[t]->owner = memory;
  }
}

void lock_in_memory(std::span<const HostTensor> tensors) {
  std::vector<std::span<const std::byte>> spans;
  uint64_t total = 0;
  for (const HostTensor& tensor : tensors) {
    spans.push_back(tensor.bytes);
    total += tensor.bytes.size();
  }
  for_each_chunk("Locking", spans, [&](size_t tensor, size_t offset, size_t size) {
    if (::mlock(&spans[tensor][offset], size) == 0) return;
    const int code = errno;
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    const std::string allowed =
        limit.rlim_cur == RLIM_INFINITY
            ? "no limit is set"
            : fmt::format("the limit RLIMIT_MEMLOCK is {:.3f} GB", gigabytes(limit.rlim_cur));
    throw Error(field::kMemoryLock,
                fmt::format("cannot lock {:.3f} GB of weights in memory: {}; {}", gigabytes(total),
                            std::strerror(code), allowed),
                "raise the limit with `ulimit -l` or LimitMEMLOCK=, or do not lock the weights");
  });
}

}  // namespace mxgpt::model
