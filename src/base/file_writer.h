// Atomic file output: a reader of the path sees the old file or the complete new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace mxgpt {

/// Writes to a temporary file next to `path`; commit() renames it. Without commit() the temporary
/// file is deleted.
class FileWriter {
 public:
  /// Throws Error if the folder is not writable, or if `path` exists and is not a regular file.
  explicit FileWriter(const std::filesystem::path& path);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Syncs to disk and renames. No calls may follow.
  void commit();

  /// Bytes written so far.
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void flush();
  void write_through(std::span<const std::byte> bytes);
  [[noreturn]] void fail(int error) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<std::byte> buffer_;  // shorter than kBufferBytes between calls
};

}  // namespace mxgpt
