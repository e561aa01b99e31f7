// Writes GGUF version 3. Tensors are streamed; only the metadata is held in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/file_writer.h"
#include "io/gguf.h"
#include "quant/format.h"

namespace mxgpt::io {

/// The GGUF type of a C++ type.
template <class T>
consteval GgufType gguf_type_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::u8;
  if constexpr (std::is_same_v<T, int8_t>) return GgufType::i8;
  if constexpr (std::is_same_v<T, uint16_t>) return GgufType::u16;
  if constexpr (std::is_same_v<T, int16_t>) return GgufType::i16;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::u32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::i32;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::u64;
  if constexpr (std::is_same_v<T, int64_t>) return GgufType::i64;
  if constexpr (std::is_same_v<T, float>) return GgufType::f32;
  if constexpr (std::is_same_v<T, double>) return GgufType::f64;
  if constexpr (std::is_same_v<T, bool>) return GgufType::boolean;
  if constexpr (std::is_same_v<T, std::string_view>) return GgufType::string;
}

/// Call order: add() and add_tensor() for all metadata and tensors, write() with the tensors' bytes
/// in the same order, then finish(). Without finish() no file is created.
class GgufWriter {
 public:
  explicit GgufWriter(const std::filesystem::path& path);

  /// Adds a metadata entry of type T: add<uint32_t>("gpt-oss.block_count", 24). The entry
  /// "general.alignment" also sets the alignment of the file. Adding a key twice is a CHECK
  /// failure.
  template <class T>
  void add(std::string_view key, const std::type_identity_t<T>& value) {
    start_entry(key, gguf_type_of<T>());
    append(value);
    if constexpr (std::is_same_v<T, uint32_t>) {
      if (key == "general.alignment") set_alignment(value);
    }
  }
  template <class T>
  void add_array(std::string_view key, std::span<const std::type_identity_t<T>> values) {
    start_array(key, gguf_type_of<T>(), values.size());
    for (const T& value : values) append(value);
  }
  /// Copies an entry of another file.
  void add(std::string_view key, const GgufValue& value);

  /// Declares a tensor of 1 to 4 dimensions; `shape` is outermost first.
  void add_tensor(std::string_view name, quant::Format format, std::span<const int64_t> shape);

  /// Writes the next bytes of the declared tensors. A call must not cross the end of a tensor.
  void write(std::span<const std::byte> bytes);
  /// Creates the file. All tensors must have been written.
  void finish();

  /// Total bytes of the declared tensors.
  uint64_t tensor_bytes() const { return tensor_bytes_; }

 private:
  template <class T>
  void append(const T& value) {
    if constexpr (std::is_same_v<T, std::string_view>) {
      append(uint64_t{value.size()});
      metadata_.append(value);
    } else {
      metadata_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  void start_entry(std::string_view key, GgufType type);
  void start_array(std::string_view key, GgufType type, size_t size);
  void set_alignment(uint32_t alignment);
  void write_header();
  void pad();

  struct Tensor {
    std::string name;
    quant::Format format;
    std::vector<int64_t> shape;
    uint64_t bytes;
  };

  FileWriter file_;
  uint32_t alignment_ = kGgufDefaultAlignment;
  std::set<std::string, std::less<>> keys_;
  std::string metadata_;  // encoded entries
  std::vector<Tensor> tensors_;
  std::set<std::string, std::less<>> names_;
  uint64_t tensor_bytes_ = 0;
  bool header_written_ = false;
  size_t current_ = 0;    // tensor that write() continues
  uint64_t written_ = 0;  // bytes of it
};

}  // namespace mxgpt::io
