// GGUF: metadata and tensors in one file or in shards, as ggml defines it (ggml, docs/gguf.md).
// Versions 2 and 3, little-endian. Every field is validated before use, so a malicious file results
// in an Error. Opening takes one pass over the header and copies no data.
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

/// Owns the mapped files; metadata and tensors are views into them. Movable.
class GgufFile {
 public:
  /// Opens a file. If it is a shard ("name-00001-of-00003.gguf"), opens all shards of the set.
  static GgufFile open(const std::filesystem::path& path);
  /// Parses a GGUF file already in memory. It must not be a shard. `bytes` must outlive the result.
  static GgufFile from_bytes(std::span<const std::byte> bytes, const std::string& where);

  uint32_t version() const { return version_; }
  /// Metadata of the first shard, the only one that describes the model.
  const GgufMetadata& metadata() const { return metadata_; }
  /// Tensors of all shards.
  const FileTensors& tensors() const { return tensors_; }
  /// Releases the memory of bytes that are not needed soon (MappedFile::release_pages).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const MappedFile& shard : shards_) shard.release_pages(bytes);
  }
  /// The file that contains these bytes of a tensor, or null.
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

/// Whether the file starts with the GGUF magic. False if it cannot be read.
bool is_gguf(const std::filesystem::path& path);

/// All shards of the set that `path` belongs to, in order, derived from its name; only `path` if it
/// is not a shard.
std::vector<std::filesystem::path> gguf_shard_paths(const std::filesystem::path& path);

}  // namespace mxgpt::io
