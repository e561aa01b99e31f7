// A GPU's memory, and the way there. Free of CUDA's headers; builds without CUDA have stub.cpp,
// where everything throws the Error that says what is missing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "backend/cuda/generic/gemm.h"
#include "base/error.h"

namespace mxgpt::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int num_sms = 0;
  int64_t total = 0, free = 0;  ///< bytes of its memory; `free` as of now
  int runtime_version = 0;      ///< CUDA's version: 12040 is 12.4
  int64_t context_bytes = 0;  ///< bytes that CUDA took for this process before anything was loaded
};

/// A GPU's memory does not suffice: the message begins with VRAM_OOM. What it refused was not done,
/// and the GPU goes on working.
struct OutOfMemory : Error {
  OutOfMemory(const std::string& where, const std::string& what, const std::string& advice,
              int64_t needed_bytes, int64_t available_bytes)
      : Error(where, what, advice), needed(needed_bytes), available(available_bytes) {}
  int64_t needed, available;  ///< bytes
};

/// What CUDA takes for a process, where it cannot be measured.
inline constexpr int64_t kDefaultContextBytes = 600 << 20;

/// Why there is no GPU to run on; empty if there is one.
std::string unavailable_reason();
/// Throws Error if there is none.
DeviceInfo device_info();

/// Bytes a second that the GPU reads and writes copying its own memory, both counted.
double copy_bandwidth();

/// Everything on the GPU is aligned to this.
inline constexpr int64_t kAlignment = 256;
inline int64_t align_up(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Hands out room from one allocation; over a null base it only counts, so that what is planned
/// and what is taken are one computation.
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

/// One allocation on the GPU, or of host memory that it reads and writes directly.
class Memory {
 public:
  enum class Kind { device, pinned };
  /// Throws Error if there is too little.
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

/// Work in order.
class Stream {
 public:
  Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  CudaStream get() const { return stream_; }
  /// Both sides are pinned or on the GPU.
  void copy(void* to, const void* from, int64_t bytes);
  void zero(void* device, int64_t bytes);
  /// Waits until all is done. Throws Error if any of it failed.
  void synchronize();

 private:
  CudaStream stream_ = nullptr;
};

/// Work recorded once, to be given to a stream again as a whole: addresses, sizes and launches stay
/// what they were, what lies at the addresses is read anew.
class Graph {
 public:
  /// Records what `work` enqueues on the stream, without doing any of it. Throws OutOfMemory, as
  /// launch() may, if the GPU has no memory for its nodes.
  Graph(Stream& stream, const std::function<void()>& work);
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();
  void launch(Stream& stream);

 private:
  struct CUgraphExec_st* exec_ = nullptr;
};

/// A place in a stream's work.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();
  void record(Stream& stream);
  /// Until the stream came to where the event was last recorded; at once if it never was.
  void synchronize();

 private:
  struct CUevent_st* event_ = nullptr;
};

}  // namespace mxgpt::cuda
