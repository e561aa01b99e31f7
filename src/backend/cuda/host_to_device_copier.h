// Copies weights to the device through a ring of pinned buffers.
#pragma once

#include "backend/cuda/device.h"

namespace mxgpt::cuda {

/// Several threads fill one pinned buffer while the others are being copied.
class HostToDeviceCopier {
 public:
  static constexpr int64_t kDefaultChunk = 32 << 20;
  explicit HostToDeviceCopier(int64_t chunk_bytes = kDefaultChunk);
  /// Waits for pending copies.
  ~HostToDeviceCopier();
  /// Returns when `bytes` have been read; the copy may still be pending.
  void copy(std::span<const std::byte> bytes, std::byte* device);
  /// Work on this stream runs after earlier copies and before later ones.
  CudaStream stream() const { return stream_.get(); }
  /// Waits for all copies.
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
