// Device memory, streams, graphs and copies, without CUDA headers. In builds without CUDA, stub.cpp
// throws an Error instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "backend/cuda/generic/gemm.h"
#include "backend/out_of_device_memory.h"

namespace mxgpt::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int num_sms = 0;
  int64_t total = 0, free = 0;  ///< bytes of device memory
  int runtime_version = 0;      ///< CUDA version: 12040 is 12.4
  int64_t context_bytes = 0;    ///< bytes that the CUDA context takes
};

using OutOfMemory = backend::OutOfDeviceMemory;

/// Size of a CUDA context if it cannot be measured.
inline constexpr int64_t kDefaultContextBytes = 600 << 20;

/// Why no GPU can be used; empty if one can.
std::string unavailable_reason();
/// Throws Error without a GPU.
DeviceInfo device_info();

/// Bytes read plus bytes written per second by a copy within device memory.
double copy_bandwidth();

/// Alignment of all device buffers.
inline constexpr int64_t kAlignment = 256;
inline int64_t align_up(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Bump allocator over one allocation. With a null base it only counts, so that the same code plans
/// and allocates.
class DeviceArena {
 public:
  explicit DeviceArena(std::byte* base = nullptr) : base_(base) {}

  template <class T>
  T* allocate(int64_t count) {
    std::byte* at = base_ ? base_ + used_ : nullptr;
    used_ += align_up(count * static_cast<int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

/// One allocation of device memory, or of pinned host memory.
class Memory {
 public:
  enum class Kind { device, pinned };
  /// Throws OutOfMemory.
  Memory(Kind kind, int64_t bytes);
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Kind kind_;
  int64_t bytes_;
  std::byte* data_ = nullptr;
};

/// A CUDA stream: work in order.
class Stream {
 public:
  Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  CudaStream get() const { return stream_; }
  /// Enqueues a copy between pinned and device memory.
  void copy(void* to, const void* from, int64_t bytes);
  void zero(void* device, int64_t bytes);
  /// Waits for all enqueued work. Throws Error if any of it failed.
  void synchronize();

 private:
  CudaStream stream_ = nullptr;
};

/// Captured work that can be replayed as a whole. Addresses, sizes and launches are fixed; the
/// contents of buffers are read anew.
class Graph {
 public:
  /// Captures what `work` enqueues on the stream, without running it. Like launch(), throws
  /// OutOfMemory if the GPU has no memory for the graph.
  Graph(Stream& stream, const std::function<void()>& work);
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();
  void launch(Stream& stream);

 private:
  struct CUgraphExec_st* exec_ = nullptr;
};

/// A point in a stream.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();
  void record(Stream& stream);
  /// Waits until the stream reaches the last record(). Returns at once if there was none.
  void synchronize();

 private:
  struct CUevent_st* event_ = nullptr;
};

}  // namespace mxgpt::cuda
