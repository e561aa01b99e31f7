// A file mapped into memory for reading.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace mxgpt {

/// Owns the mapping; spans taken from it are valid while it lives. Movable, not copyable. The file
/// must not be truncated while it is mapped.
class MappedFile {
 public:
  /// Throws Error if the path is missing, is not a regular file or cannot be mapped. An empty file
  /// is an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Gives back the memory that holds these bytes, as far as they are of this file: a pass over a
  /// large file then needs little. They stay readable, and are fetched again when they are read.
  void release_pages(std::span<const std::byte> bytes) const;
  bool contains(std::span<const std::byte> bytes) const;
  /// Copies bytes of this file to `to` without touching the map, which large pieces do faster.
  /// Throws Error if the file has become shorter or cannot be read.
  void read(std::span<const std::byte> bytes, std::byte* to) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::span<const std::byte> bytes_;
};

}  // namespace mxgpt
