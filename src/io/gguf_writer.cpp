#include "io/gguf_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/check.h"

namespace mxgpt::io {

GgufWriter::GgufWriter(const std::filesystem::path& path) : file_(path) {}

void GgufWriter::start_entry(std::string_view key, GgufType type) {
  MXGPT_CHECK(!header_written_, "'{}' comes after the first tensor's bytes", key);
  MXGPT_CHECK(keys_.emplace(key).second, "'{}' is added twice", key);
  append(key);
  append(static_cast<uint32_t>(type));
}

void GgufWriter::start_array(std::string_view key, GgufType type, size_t size) {
  start_entry(key, GgufType::array);
  append(static_cast<uint32_t>(type));
  append(uint64_t{size});
}

void GgufWriter::set_alignment(uint32_t alignment) {
  MXGPT_CHECK(std::has_single_bit(alignment), "alignment {} is not a power of two", alignment);
  alignment_ = alignment;
}

void GgufWriter::add(std::string_view key, const GgufValue& value) {
  if (value.is_array) {
    start_array(key, value.type, value.size);
  } else {
    start_entry(key, value.type);
  }
  metadata_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
  if (key == "general.alignment") {
    set_alignment(static_cast<uint32_t>(std::get<int64_t>(value.elements(1)[0])));
  }
}

void GgufWriter::add_tensor(std::string_view name, quant::Format format,
                            std::span<const int64_t> shape) {
  MXGPT_CHECK(!header_written_, "'{}' comes after the first tensor's bytes", name);
  MXGPT_CHECK(names_.emplace(name).second, "tensor '{}' is added twice", name);
  MXGPT_CHECK(!shape.empty() && shape.size() <= 4, "tensor '{}' has {} dimensions", name,
              shape.size());
  const quant::FormatTraits& t = quant::traits(format);
  MXGPT_CHECK(shape.back() % t.block_elements == 0, "tensor '{}': row length {} in {}", name,
              shape.back(), t.name);
  uint64_t rows = 1;
  for (const int64_t extent : shape.first(shape.size() - 1)) rows *= static_cast<uint64_t>(extent);
  const uint64_t bytes = rows * static_cast<uint64_t>(t.row_bytes(shape.back()));
  tensors_.push_back({std::string(name), format, {shape.begin(), shape.end()}, bytes});
  tensor_bytes_ += bytes;
}

void GgufWriter::pad() {
  static constexpr std::array<std::byte, 4096> kZeros{};
  for (uint64_t left = -file_.size() & (alignment_ - 1); left > 0;) {
    const size_t chunk = std::min<uint64_t>(left, kZeros.size());
    file_.write(std::span(kZeros).first(chunk));
    left -= chunk;
  }
}

void GgufWriter::write_header() {
  header_written_ = true;
  // append() also encodes the rest of the header.
  std::string entries = std::exchange(metadata_, {});
  metadata_ = kGgufMagic;
  append(uint32_t{3});  // version
  append(uint64_t{tensors_.size()});
  append(uint64_t{keys_.size()});
  metadata_ += entries;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append(std::string_view(tensor.name));
    append(static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;) append(tensor.shape[i]);
    append(quant::traits(tensor.format).ggml_type);
    append(offset);
    offset += (tensor.bytes + alignment_ - 1) / alignment_ * alignment_;
  }
  file_.write(metadata_);
  metadata_.clear();
  pad();
}

void GgufWriter::write(std::span<const std::byte> bytes) {
  if (!header_written_) write_header();
  MXGPT_CHECK(current_ < tensors_.size(), "{} bytes after the last tensor", bytes.size());
  const Tensor& tensor = tensors_[current_];
  MXGPT_CHECK(bytes.size() <= tensor.bytes - written_, "{} bytes where tensor '{}' lacks {}",
              bytes.size(), tensor.name, tensor.bytes - written_);
  file_.write(bytes);
  written_ += bytes.size();
  if (written_ < tensor.bytes) return;
  pad();
  ++current_;
  written_ = 0;
}

void GgufWriter::finish() {
  if (!header_written_) write_header();
  MXGPT_CHECK(current_ == tensors_.size(), "tensor '{}' lacks bytes", tensors_[current_].name);
  file_.commit();
}

}  // namespace mxgpt::io
