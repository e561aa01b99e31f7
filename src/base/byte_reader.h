// A bounds-checked cursor over untrusted little-endian bytes.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "base/error.h"

namespace mxgpt {

static_assert(std::endian::native == std::endian::little, "mxgpt reads model files in place");

/// Reads a value at any alignment. The caller guarantees sizeof(T) readable bytes.
template <class T>
requires std::is_arithmetic_v<T> T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

class ByteReader {
 public:
  /// Views `bytes`, which must outlive the reader and everything it returns. `where` names the file
  /// in errors.
  ByteReader(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  /// Sets the subject of error messages: "the header", "tensor 'output.weight'".
  void set_context(std::string context) { context_ = std::move(context); }

  template <class T>
  T read() {
    return load_le<T>(read_bytes(sizeof(T)).data());
  }

  /// The next `size` bytes, for any `size` that a file claims. Throws Error if fewer remain.
  std::span<const std::byte> read_bytes(uint64_t size) {
    if (size > remaining()) [[unlikely]] {
      fail(fmt::format("needs {} bytes at byte {}, but only {} are left", size, offset_,
                       remaining()),
           "the file is damaged or incomplete, download it again");
    }
    const auto bytes = bytes_.subspan(offset_, static_cast<size_t>(size));
    offset_ += bytes.size();
    return bytes;
  }

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  /// The bytes from `start`, an earlier offset, to the current one.
  std::span<const std::byte> bytes_since(size_t start) const {
    return bytes_.subspan(start, offset_ - start);
  }

  /// Throws an Error about the current subject.
  [[noreturn]] void fail(const std::string& problem, const std::string& fix = {}) const {
    throw Error(where_, context_ + " " + problem, fix);
  }

 private:
  std::span<const std::byte> bytes_;
  size_t offset_ = 0;
  std::string where_;
  std::string context_ = "the header";
};

}  // namespace mxgpt
