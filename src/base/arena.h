// Memory for buffers whose sizes are known before work begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace mxgpt {

/// Zeroed pages from the system, committed when first touched (and then near the processor that
/// touches them). Large ones ask for huge pages. Movable.
class PageMemory {
 public:
  /// Throws Error, with `what` it is for, if the address space is exhausted.
  PageMemory(size_t bytes, std::string_view purpose);
  PageMemory(PageMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ~PageMemory();
  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  std::byte* data_;
  size_t bytes_;
};

/// Hands out buffers one after the other. The code that takes them runs twice: on a counting arena,
/// to learn how much it needs, and on one of that size. So what is planned is what is used.
class Arena {
 public:
  /// Counts only: every buffer is empty.
  Arena() : memory_(0, "") {}
  Arena(size_t bytes, std::string_view purpose) : memory_(bytes, purpose) {}

  /// Zeroed, aligned to a cache line; lives as long as the arena or what it was moved to.
  template <class T>
  std::span<T> allocate(int64_t count) {
    std::byte* at = bump(static_cast<size_t>(count) * sizeof(T));
    return at ? std::span(reinterpret_cast<T*>(at), static_cast<size_t>(count)) : std::span<T>();
  }
  /// Bytes taken so far.
  size_t used() const { return used_; }

 private:
  /// Null if this arena only counts.
  std::byte* bump(size_t bytes);

  PageMemory memory_;
  size_t used_ = 0;
};

}  // namespace mxgpt
