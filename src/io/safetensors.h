// safetensors files, and Hugging Face checkpoints made of them. A file is a JSON header with names,
// types, shapes and offsets, followed by the tensors' bytes without gaps
// (github.com/huggingface/safetensors, "Format"). Every field is validated before use.
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

/// Owns the mapped file; tensors are views into it. Movable.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);
  /// Reads a file in memory. `bytes` must outlive the result.
  static SafetensorsFile from_bytes(std::span<const std::byte> bytes, const std::string& where);

  const FileTensors& tensors() const { return tensors_; }
  /// Releases the memory of bytes that are not needed soon (MappedFile::release_pages).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const MappedFile& file : file_) file.release_pages(bytes);
  }
  /// The file that contains these bytes of a tensor, or null.
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

  std::vector<MappedFile> file_;  // empty if the bytes belong to the caller
  FileTensors tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A directory with config.json and the weights in model.safetensors, or in the shards listed in
/// model.safetensors.index.json. Owns the mapped files; tensors are views into them. Movable.
class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& directory);

  /// The contents of config.json; valid until this object is moved.
  json::Node config() const { return {config_, (directory_ / "config.json").string() + ":"}; }
  /// The contents of generation_config.json; an empty object if the file does not exist.
  json::Node generation_config() const {
    return {generation_config_, (directory_ / "generation_config.json").string() + ":"};
  }
  /// Tensors of all shards.
  const FileTensors& tensors() const { return tensors_; }
  /// Releases the memory of bytes that are not needed soon (MappedFile::release_pages).
  void release_pages(std::span<const std::byte> bytes) const {
    for (const SafetensorsFile& shard : shards_) shard.release_pages(bytes);
  }
  /// The file that contains these bytes of a tensor, or null.
  const MappedFile* file_containing(std::span<const std::byte> bytes) const {
    for (const SafetensorsFile& shard : shards_) {
      if (const MappedFile* file = shard.file_containing(bytes)) return file;
    }
    return nullptr;
  }
  /// The file may not exist.
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

/// Writes one file, streaming. Call order: add_tensor() for all tensors, write() with their bytes
/// in the same order, then finish(). Without finish() no file is created.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(const std::filesystem::path& path);

  /// `type` is a dtype of the format ("F32", "I32"); `shape` is outermost first.
  void add_tensor(std::string_view name, std::string_view type, std::span<const int64_t> shape);
  /// Writes the next bytes of the declared tensors, in chunks of any size.
  void write(std::span<const std::byte> bytes);
  /// Creates the file. All tensors must have been written.
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
