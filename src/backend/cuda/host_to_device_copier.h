// The way of weights to the GPU.
#pragma once

#include "backend/cuda/device.h"

namespace mxgpt::cuda {

/// Copies through pinned buffers, one filled by several threads while others are on their way.
class HostToDeviceCopier {
 public:
  static constexpr int64_t kDefaultChunk = 32 << 20;
  explicit HostToDeviceCopier(int64_t chunk_bytes = kDefaultChunk);
  /// Waits for what is on its way.
  ~HostToDeviceCopier();
  /// Returns when all of `bytes` was read; it may not have arrived.
  void copy(std::span<const std::byte> bytes, std::byte* device);
  /// Work on it comes after what was copied, and before what will be.
  CudaStream stream() const { return stream_.get(); }
  /// Until all has arrived.
  void synchronize();

 private:
  static constexpr int kBuffers = 3;

  int64_t chunk_;
  Memory pinned_;
  Stream stream_;
  Event copied_[kBuffers];
  int next_ = 0;
};

}  // namespace mxgpt::cuda
