// The way of weights to the GPU.
#pragma once

#include "backend/cuda/device.h"

namespace mxgpt::cuda {

/// Copies through pinned buffers, one filled by several threads while others are on their way.
class Uploader {
 public:
  static constexpr int64_t kDefaultChunk = 32 << 20;
  explicit Uploader(int64_t chunk_bytes = kDefaultChunk);
  /// Waits for what is on its way.
  ~Uploader();
  /// Returns when all of `bytes` was read; it may not have arrived.
  void copy(std::span<const std::byte> bytes, std::byte* device);
  /// Work on it comes after what was copied, and before what will be.
  DeviceStream stream() const { return stream_.get(); }
  /// Until all has arrived.
  void finish();

 private:
  static constexpr int kBuffers = 3;

  int64_t chunk_;
  Memory pinned_;
  Stream stream_;
  Event sent_[kBuffers];
  int next_ = 0;
};

}  // namespace mxgpt::cuda
