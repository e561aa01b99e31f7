#include "model/load.h"

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
#include "base/threads.h"

namespace mxgpt {

namespace {

/// Calls f(tensor, offset, size) for pieces of all tensors, in several threads: of disks, too, more
/// than one wants to be asked at a time. The first exception ends it and is thrown again.
void for_pieces(std::string label, std::span<const std::span<const std::byte>> tensors,
                const std::function<void(size_t tensor, size_t offset, size_t size)>& f) {
  constexpr size_t kPiece = 8 << 20;
  constexpr int kLeastThreads = 4;
  struct Piece {
    size_t tensor, offset, size;
  };
  std::vector<Piece> pieces;
  uint64_t total = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    total += tensors[t].size();
    for (size_t at = 0; at < tensors[t].size(); at += kPiece)
      pieces.push_back({t, at, std::min(kPiece, tensors[t].size() - at)});
  }
  Progress progress(std::move(label), total);
  std::mutex mutex;  // of progress and error
  std::exception_ptr error;
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next++) < pieces.size();) {
      try {
        f(pieces[i].tensor, pieces[i].offset, pieces[i].size);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = pieces.size();
        return;
      }
      const std::lock_guard lock(mutex);
      progress.advance(pieces[i].size);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = std::max(thread_count(), kLeastThreads); i > 0; --i) threads.emplace_back(work);
  }
  if (error) std::rethrow_exception(error);
}

double gigabytes(uint64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

}  // namespace

void copy_to_memory(
    std::span<HostTensor* const> tensors,
    const std::function<const MappedFile*(std::span<const std::byte> bytes)>& file_of) {
  const auto lay_out = [&](Arena& arena) {
    std::vector<std::span<std::byte>> places;
    for (const HostTensor* tensor : tensors)
      places.push_back(arena.take<std::byte>(static_cast<int64_t>(tensor->bytes.size())));
    return places;
  };
  Arena counted;
  lay_out(counted);
  const auto memory = std::make_shared<Arena>(counted.used(), "the weights");
  const std::vector<std::span<std::byte>> places = lay_out(*memory);

  std::vector<std::span<const std::byte>> sources;
  std::vector<const MappedFile*> files;
  for (const HostTensor* tensor : tensors) {
    sources.push_back(tensor->bytes);
    files.push_back(file_of(tensor->bytes));
  }
  for_pieces("Reading", sources, [&](size_t tensor, size_t offset, size_t size) {
    files[tensor]->read(sources[tensor].subspan(offset, size), &places[tensor][offset]);
  });
  for (size_t t = 0; t < tensors.size(); ++t) {
    tensors[t]->bytes = places[t];
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
  for_pieces("Locking", spans, [&](size_t tensor, size_t offset, size_t size) {
    if (::mlock(&spans[tensor][offset], size) == 0) return;
    const int why = errno;
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    const std::string allowed =
        limit.rlim_cur == RLIM_INFINITY
            ? "no limit is set"
            : fmt::format("the limit RLIMIT_MEMLOCK is {:.3f} GB", gigabytes(limit.rlim_cur));
    throw Error("--lock",
                fmt::format("cannot keep {:.3f} GB of weights in memory: {}; {}", gigabytes(total),
                            std::strerror(why), allowed),
                "raise it with `ulimit -l` or LimitMEMLOCK=, or run without --lock");
  });
}

}  // namespace mxgpt
