// A cursor over little-endian bytes from outside: nothing is read before it is known to be there.
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

/// Reads a value at any alignment. The caller has checked that sizeof(T) bytes are there.
template <class T>
requires std::is_arithmetic_v<T> T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

class ByteReader {
 public:
  /// Views `bytes`, which must outlive the reader and all it returns. `where` names the file in
  /// errors.
  ByteReader(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  /// What is being read, for errors: "the header", "tensor 'output.weight'".
  void set_context(std::string context) { context_ = std::move(context); }

  template <class T>
  T read() {
    return load_le<T>(read_bytes(sizeof(T)).data());
  }

  /// The next `size` bytes, whatever `size` a file claims; throws Error if there are fewer.
  std::span<const std::byte> read_bytes(uint64_t size) {
    if (size > remaining()) [[unlikely]] {
      fail(fmt::format("needs {} bytes at byte {}, but only {} are left", size, offset_,
                       remaining()),
           "the file is damaged or incomplete, fetch it again");
    }
    const auto bytes = bytes_.subspan(offset_, static_cast<size_t>(size));
    offset_ += bytes.size();
    return bytes;
  }

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  /// From `start`, an earlier offset, up to here.
  std::span<const std::byte> bytes_since(size_t start) const {
    return bytes_.subspan(start, offset_ - start);
  }

  /// An Error about what is being read.
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
