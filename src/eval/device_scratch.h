// Device memory for the duration of one check.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/backend.h"

namespace mxgpt::eval {

class DeviceScratch {
 public:
  /// Copies `values` to the device.
  template <class T>
  T* upload(std::span<const T> values) {
    T* device = allocate<T>(std::ssize(values));
    stream_.copy(device, values.data(), static_cast<int64_t>(values.size_bytes()));
    stream_.synchronize();
    return device;
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    return upload(std::span<const T>(values));
  }
  backend::Tensor upload(const backend::Tensor& host) {
    if (!host) return {};
    backend::Tensor device = host;
    const int64_t bytes = std::max<int64_t>(1, host.rows) * host.num_experts * host.row_bytes();
    device.data = upload(std::span(host.data, static_cast<size_t>(bytes)));
    return device;
  }
  backend::Linear upload(const backend::Linear& host) {
    return {upload(host.weight), upload(host.bias)};
  }
  backend::Norm upload(const backend::Norm& host) {
    backend::Norm device = host;
    device.weight = upload(host.weight);
    device.bias = upload(host.bias);
    return device;
  }

  /// Allocates memory with all bits set (NaN), so that missing writes show.
  template <class T>
  T* allocate(int64_t count) {
    const auto bytes = static_cast<int64_t>(count * sizeof(T));
    const auto& memory =
        buffers_.emplace_back(std::make_unique<cuda::Memory>(cuda::Memory::Kind::device, bytes));
    const std::vector<std::byte> ones(bytes, std::byte{0xff});
    stream_.copy(memory->data(), ones.data(), bytes);
    stream_.synchronize();
    return reinterpret_cast<T*>(memory->data());
  }

  template <class T>
  void download(const T* device, std::span<T> out) {
    stream_.copy(out.data(), device, static_cast<int64_t>(out.size_bytes()));
    stream_.synchronize();
  }
  template <class T>
  std::vector<T> download(const T* device, int64_t count) {
    std::vector<T> values(count);
    download(device, std::span(values));
    return values;
  }

  cuda::CudaStream stream() const { return stream_.get(); }

 private:
  cuda::Stream stream_;
  std::vector<std::unique_ptr<cuda::Memory>> buffers_;
};

/// A generic backend and the memory that it works in.
class DeviceBackend {
 public:
  explicit DeviceBackend(const backend::MaxShapes& max_shapes)
      : memory_(cuda::Memory::Kind::device, bytes(max_shapes)),
        arena_(memory_.data()),
        backend(cuda::create_generic_backend(max_shapes, arena_)) {}

  void begin_step(const backend::Batch& batch) {
    backend->begin_step(batch);
    backend->step().upload();
  }

 private:
  static int64_t bytes(const backend::MaxShapes& max_shapes) {
    cuda::DeviceArena arena;
    cuda::measure_generic_backend(max_shapes, arena);
    return arena.used();
  }

  cuda::Memory memory_;
  cuda::DeviceArena arena_;

 public:
  std::unique_ptr<cuda::CudaBackend> backend;
};

}  // namespace mxgpt::eval
