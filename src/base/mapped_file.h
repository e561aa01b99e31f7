// A read-only memory-mapped file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace mxgpt {

/// Owns the mapping, and spans of it are valid as long. Movable. The file must not be truncated
/// while it is mapped.
class MappedFile {
 public:
  /// Throws Error if the path does not exist, is not a regular file or cannot be mapped. An empty
  /// file yields an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Releases the memory behind those of `bytes` that belong to this file, so that a pass over a
  /// large file needs little memory. The bytes stay readable and are fetched again on access.
  void release_pages(std::span<const std::byte> bytes) const;
  bool contains(std::span<const std::byte> bytes) const;
  /// Copies bytes of this file to `to` with pread, which is faster than the mapping for large
  /// sizes. Throws Error if the file was truncated or cannot be read.
  void read(std::span<const std::byte> bytes, std::byte* to) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::span<const std::byte> bytes_;
};

}  // namespace mxgpt
