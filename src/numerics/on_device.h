// Data on a GPU for the length of a check.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/backend.h"

namespace mxgpt {

class OnDevice {
 public:
  /// A copy of `values`.
  template <class T>
  T* put(std::span<const T> values) {
    T* device = room<T>(std::ssize(values));
    stream_.copy(device, values.data(), static_cast<int64_t>(values.size_bytes()));
    stream_.wait();
    return device;
  }
  template <class T>
  T* put(const std::vector<T>& values) {
    return put(std::span<const T>(values));
  }
  Tensor put(const Tensor& host) {
    if (!host) return {};
    Tensor device = host;
    const int64_t bytes = std::max<int64_t>(1, host.rows) * host.slices * host.row_bytes();
    device.data = put(std::span(host.data, static_cast<size_t>(bytes)));
    return device;
  }
  Linear put(const Linear& host) { return {put(host.weight), put(host.bias)}; }
  Norm put(const Norm& host) {
    Norm device = host;
    device.weight = put(host.weight);
    device.bias = put(host.bias);
    return device;
  }

  /// Filled with ones in every bit, which are NaN: what is not written shows.
  template <class T>
  T* room(int64_t count) {
    const auto bytes = static_cast<int64_t>(count * sizeof(T));
    const auto& memory =
        memories_.emplace_back(std::make_unique<cuda::Memory>(cuda::Memory::Kind::device, bytes));
    const std::vector<std::byte> ones(bytes, std::byte{0xff});
    stream_.copy(memory->data(), ones.data(), bytes);
    stream_.wait();
    return reinterpret_cast<T*>(memory->data());
  }

  template <class T>
  void get(const T* device, std::span<T> out) {
    stream_.copy(out.data(), device, static_cast<int64_t>(out.size_bytes()));
    stream_.wait();
  }
  template <class T>
  std::vector<T> get(const T* device, int64_t count) {
    std::vector<T> values(count);
    get(device, std::span(values));
    return values;
  }

  DeviceStream stream() const { return stream_.get(); }

 private:
  cuda::Stream stream_;
  std::vector<std::unique_ptr<cuda::Memory>> memories_;
};

/// A backend with its memory.
class DeviceBackend {
 public:
  explicit DeviceBackend(const cuda::Limits& limits)
      : memory_(cuda::Memory::Kind::device, bytes(limits)),
        room_(memory_.data()),
        backend(limits, room_) {}

 private:
  static int64_t bytes(const cuda::Limits& limits) {
    cuda::Room room;
    const cuda::Backend counted(limits, room);
    return room.used();
  }

  cuda::Memory memory_;
  cuda::Room room_;

 public:
  cuda::Backend backend;
};

}  // namespace mxgpt
