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
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace mxgpt
