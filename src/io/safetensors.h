// safetensors files, and checkpoints made of them, as Hugging Face lays them out. The format is a
// JSON header of names, types, shapes and offsets, and then the bytes of the tensors without a gap
// (github.com/huggingface/safetensors, "Format"). Every field is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_writer.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "io/file_tensor.h"

namespace mxgpt::io {

/// Owns the mapped file; tensors are views that live as long. Movable.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);
  /// Reads a file that lies in memory. `bytes` must outlive the result.
  static SafetensorsFile from_bytes(std::span<const std::byte> bytes, const std::string& where);

  const FileTensors& tensors() const { return tensors_; }
  /// Gives back the memory of bytes that will not be read soon (MappedFile::release).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const MappedFile& file : file_) file.release_pages(bytes);
  }
  /// The file that these bytes of a tensor are in; null if they are in no file.
  const MappedFile* file_containing(std::span<const std::byte> bytes) const {
    for (const MappedFile& file : file_) {
      if (file.contains(bytes)) return &file;
    }
    return nullptr;
  }
  /// The "__metadata__" of the header.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;

  std::vector<MappedFile> file_;  // one, or none if the bytes belong to the caller
  FileTensors tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A directory with config.json and the weights in model.safetensors, or in the shards that
/// model.safetensors.index.json names. Owns the mapped files; tensors are views that live as long.
/// Movable.
class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& directory);

  /// For reading config.json; valid until this object is moved.
  json::Node config() const { return {config_, (directory_ / "config.json").string() + ":"}; }
  /// Likewise generation_config.json; an empty object if there is none.
  json::Node generation_config() const {
    return {generation_config_, (directory_ / "generation_config.json").string() + ":"};
  }
  /// Of all shards.
  const FileTensors& tensors() const { return tensors_; }
  /// Gives back the memory of bytes that will not be read soon (MappedFile::release).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const SafetensorsFile& shard : shards_) shard.release_pages(bytes);
  }
  /// The file that these bytes of a tensor are in; null if they are in no file.
  const MappedFile* file_containing(std::span<const std::byte> bytes) const {
    for (const SafetensorsFile& shard : shards_) {
      if (const MappedFile* file = shard.file_containing(bytes)) return file;
    }
    return nullptr;
  }
  /// Whether there is such a file is for the reader to see.
  std::filesystem::path tokenizer_path() const { return directory_ / "tokenizer.json"; }
  const std::filesystem::path& directory() const { return directory_; }

 private:
  Checkpoint() = default;

  std::filesystem::path directory_;
  json::value config_;
  json::value generation_config_ = json::object();
  std::vector<SafetensorsFile> shards_;
  FileTensors tensors_;
};

/// Writes one file, streaming: tensors are declared first, then come their bytes in the same order,
/// then finish(). Without finish() no file appears.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(const std::filesystem::path& path);

  /// `type` as the format spells it ("F32", "I32"); `shape` is outermost first.
  void add_tensor(std::string_view name, std::string_view type, std::span<const int64_t> shape);
  /// The next bytes of the declared tensors, in any pieces.
  void write(std::span<const std::byte> bytes);
  /// Puts the file in place; all tensors are written.
  void finish();

 private:
  void write_header();

  FileWriter file_;
  json::object header_;
  uint64_t declared_ = 0;  // bytes of all tensors
  uint64_t written_ = 0;
  bool header_written_ = false;
};

}  // namespace mxgpt::io
