#include "backend/cuda/host_to_device_copier.h"

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"

namespace mxgpt::cuda {

HostToDeviceCopier::HostToDeviceCopier(int64_t chunk_bytes)
    : chunk_(chunk_bytes), pinned_(Memory::Kind::pinned, kBuffers * chunk_bytes) {}

HostToDeviceCopier::~HostToDeviceCopier() {
  for (Event& sent : copied_) {
    try {
      sent.synchronize();
    } catch (const std::exception&) {  // a later synchronize() reports it
    }
  }
}

void HostToDeviceCopier::copy(std::span<const std::byte> bytes, std::byte* device) {
  while (!bytes.empty()) {
    const auto size = std::min<int64_t>(chunk_, static_cast<int64_t>(bytes.size()));
    std::byte* const buffer = pinned_.data() + next_ * chunk_;
    copied_[next_].synchronize();
    // A single thread reaches a fraction of the bandwidth of memory or of the bus.
    constexpr int64_t kPart = 1 << 20;
    const int64_t parts = (size + kPart - 1) / kPart;
    parallel_for(parts, [&](int64_t part) {
      const int64_t at = part * kPart;
      std::memcpy(buffer + at, bytes.data() + at, std::min(kPart, size - at));
    });
    stream_.copy(device, buffer, size);
    copied_[next_].record(stream_);
    next_ = (next_ + 1) % kBuffers;
    bytes = bytes.subspan(size);
    device += size;
  }
}

void HostToDeviceCopier::synchronize() {
  stream_.synchronize();
}

}  // namespace mxgpt::cuda
