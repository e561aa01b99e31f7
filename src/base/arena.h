// Memory for buffers whose sizes are known before work begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace mxgpt {

/// Zeroed pages from the operating system. A page is allocated when first touched, near the
/// processor that touches it. Large allocations request huge pages. Movable.
class PageMemory {
 public:
  /// Throws Error, naming `purpose`, if the address space is exhausted.
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

/// A bump allocator. The same allocation code runs twice: on a counting arena to learn the size,
/// and on an arena of that size. The plan therefore always matches the use.
class Arena {
 public:
  /// A counting arena: every buffer is empty.
  Arena() : memory_(0, "") {}
  Arena(size_t bytes, std::string_view purpose) : memory_(bytes, purpose) {}

  /// Zeroed and aligned to a cache line. Valid as long as the arena, or the arena it is moved to.
  template <class T>
  std::span<T> allocate(int64_t count) {
    std::byte* at = bump(static_cast<size_t>(count) * sizeof(T));
    return at ? std::span(reinterpret_cast<T*>(at), static_cast<size_t>(count)) : std::span<T>();
  }
  /// Bytes allocated so far.
  size_t used() const { return used_; }

 private:
  /// Null for a counting arena.
  std::byte* bump(size_t bytes);

  PageMemory memory_;
  size_t used_ = 0;
};

}  // namespace mxgpt
