// GGUF: metadata and tensors in one file or in shards, as ggml defines it (ggml, docs/gguf.md).
// Versions 2 and 3, little-endian. Every field is checked before it is used, so a hostile file ends
// in an Error; opening costs one pass over the header and no copy of what it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "io/file_tensor.h"
#include "io/gguf_metadata.h"

namespace mxgpt::io {

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr uint32_t kGgufDefaultAlignment = 32;

/// Owns the mapped files; metadata and tensors are views that live as long. Movable.
class GgufFile {
 public:
  /// Opens a file, and its siblings if it is any shard of a set ("name-00001-of-00003.gguf").
  static GgufFile open(const std::filesystem::path& path);
  /// Reads a file that lies in memory and is no shard. `bytes` must outlive the result.
  static GgufFile from_bytes(std::span<const std::byte> bytes, const std::string& where);

  uint32_t version() const { return version_; }
  /// Of the first shard, which alone describes the model.
  const GgufMetadata& metadata() const { return metadata_; }
  /// Of all shards.
  const FileTensors& tensors() const { return tensors_; }
  /// Gives back the memory of bytes that will not be read soon (MappedFile::release).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const MappedFile& shard : shards_) shard.release_pages(bytes);
  }
  /// The file that these bytes of a tensor are in; null if they are in no file.
  const MappedFile* file_containing(std::span<const std::byte> bytes) const {
    for (const MappedFile& shard : shards_) {
      if (shard.contains(bytes)) return &shard;
    }
    return nullptr;
  }

 private:
  GgufFile() = default;

  std::vector<MappedFile> shards_;
  uint32_t version_ = 0;
  GgufMetadata metadata_;
  FileTensors tensors_;
};

/// Whether the file begins as a GGUF file does. False if it cannot be read.
bool is_gguf(const std::filesystem::path& path);

/// All files of the set that `path` is a shard of, judged by its name, in order; just `path` if it
/// is none.
std::vector<std::filesystem::path> gguf_shard_paths(const std::filesystem::path& path);

}  // namespace mxgpt::io
