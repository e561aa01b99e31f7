#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <limits>
#include <optional>

#include "base/byte_reader.h"
#include "base/check.h"
#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::io {

namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 64;              // numpy's limit
constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();
constexpr std::string_view kMetadataKey = "__metadata__";

struct Type {
  std::string_view name;
  int bits;
  std::optional<quant::Format> format;
};

constexpr Type kTypes[] = {
    {"F64", 64, {}},
    {"F32", 32, quant::Format::f32},
    {"F16", 16, quant::Format::f16},
    {"BF16", 16, quant::Format::bf16},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
    {"C64", 64, {}},
    {"I64", 64, {}},
    {"U64", 64, {}},
    {"I32", 32, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
};

const Type* find_type(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const Type& type) { return type.name == name; });
  return found == std::end(kTypes) ? nullptr : found;
}

/// Finds duplicate keys. Boost.JSON silently keeps the last, other parsers the first.
class DuplicateFinder {
 public:
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = max_object_size;
  static constexpr size_t max_key_size = max_object_size;
  static constexpr size_t max_string_size = max_object_size;
  using Code = boost::json::error_code;
  using View = boost::json::string_view;

  bool on_object_begin(Code&) { return objects_.emplace_back(), true; }
  bool on_object_end(size_t, Code&) { return objects_.pop_back(), true; }
  bool on_key_part(View part, size_t, Code&) { return key_.append(part.data(), part.size()), true; }
  bool on_key(View part, size_t, Code& error) {
    key_.append(part.data(), part.size());
    if (!objects_.back().insert(key_).second) {
      duplicate = key_;
      error = boost::json::error::syntax;  // stops the parser
      return false;
    }
    key_.clear();
    return true;
  }
  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_array_begin(Code&) { return true; }
  bool on_array_end(size_t, Code&) { return true; }
  bool on_string_part(View, size_t, Code&) { return true; }
  bool on_string(View, size_t, Code&) { return true; }
  bool on_number_part(View, Code&) { return true; }
  bool on_int64(int64_t, View, Code&) { return true; }
  bool on_uint64(uint64_t, View, Code&) { return true; }
  bool on_double(double, View, Code&) { return true; }
  bool on_bool(bool, Code&) { return true; }
  bool on_null(Code&) { return true; }
  bool on_comment_part(View, Code&) { return true; }
  bool on_comment(View, Code&) { return true; }

  std::optional<std::string> duplicate;

 private:
  std::vector<std::set<std::string>> objects_;  // keys seen in each open object
  std::string key_;
};

/// Throws Error on a duplicate key. `text` must be valid JSON.
void refuse_duplicate_keys(std::string_view text, const std::string& where) {
  boost::json::parse_options options;
  options.max_depth = json::kMaxDepth;
  boost::json::basic_parser<DuplicateFinder> parser(options);
  boost::json::error_code error;
  parser.write_some(false, text.data(), text.size(), error);
  if (const auto& key = parser.handler().duplicate) {
    throw Error(where, fmt::format("the header contains '{}' twice", escape_for_terminal(*key)));
  }
}

struct Header {
  std::vector<FileTensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads a tensor of the header; `data` follows the header.
FileTensor read_tensor(std::string_view name, const json::Node& node,
                       std::span<const std::byte> data) {
  FileTensor tensor;
  tensor.name = name;
  const std::string_view type_name = node["dtype"].string();
  const Type* type = find_type(type_name);
  if (!type) node.fail(fmt::format("has the unknown dtype '{}'", escape_for_terminal(type_name)));
  tensor.type = type->name;
  tensor.format = type->format;

  const json::Node shape = node["shape"];
  if (shape.array().size() > kMaxDimensions) {
    shape.fail(
        fmt::format("has {} dimensions, more than {}", shape.array().size(), kMaxDimensions));
  }
  uint64_t bits = static_cast<uint64_t>(type->bits);
  for (size_t i = 0; i < shape.array().size(); ++i) {
    tensor.shape.push_back(shape.at(i).integer(0, kMaxInteger));
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(tensor.shape.back()), &bits)) {
      node.fail("needs more than 2^64 bits");
    }
  }
  if (bits % 8 != 0) node.fail(fmt::format("ends inside a byte with {} bits", bits));

  const json::Node offsets = node["data_offsets"];
  if (offsets.array().size() != 2) offsets.fail("should be two offsets, begin and end");
  const auto begin = static_cast<uint64_t>(offsets.at(0).integer(0, kMaxInteger));
  const auto end = static_cast<uint64_t>(offsets.at(1).integer(0, kMaxInteger));
  if (begin > end || end > data.size()) {
    offsets.fail(
        fmt::format("are {} and {}, but the file has {} bytes of data; it is damaged or incomplete",
                    begin, end, data.size()));
  }
  if (end - begin != bits / 8) {
    node.fail(fmt::format("has {} bytes at its offsets, but its shape and dtype need {}",
                          end - begin, bits / 8));
  }
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

/// Tensors must cover the data without gap or overlap, so that a file has only one interpretation.
void require_contiguous(const std::vector<FileTensor>& tensors, std::span<const std::byte> data,
                        const std::string& where) {
  std::vector<const FileTensor*> by_offset;
  for (const FileTensor& tensor : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const FileTensor* a, const FileTensor* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) <
           std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* at = data.data();
  for (const FileTensor* tensor : by_offset) {
    if (tensor->bytes.data() != at) {
      throw Error(where,
                  fmt::format("tensor '{}' begins at byte {} of the data, {} byte {}",
                              escape_for_terminal(tensor->name), tensor->bytes.data() - data.data(),
                              tensor->bytes.data() > at ? "leaving a gap from"
                                                        : "overlapping the tensor that ends at",
                              at - data.data()));
    }
    at += tensor->bytes.size();
  }
  if (at != data.data() + data.size()) {
    throw Error(where,
                fmt::format("has {} bytes after its last tensor", data.data() + data.size() - at));
  }
}

Header read_header(std::span<const std::byte> bytes, const std::string& where) {
  ByteReader in(bytes, where);
  const uint64_t size = in.read<uint64_t>();
  if (size > kMaxHeaderBytes) {
    in.fail(fmt::format("claims {} bytes; the format allows {}", size, kMaxHeaderBytes),
            "choose a safetensors file");
  }
  const auto raw = in.read_bytes(size);
  const std::string_view text(reinterpret_cast<const char*>(raw.data()), raw.size());
  if (!text.starts_with('{')) in.fail("does not begin with '{'", "choose a safetensors file");
  const json::value document = json::parse(text, where);
  refuse_duplicate_keys(text, where);

  const auto data = bytes.subspan(in.offset());
  Header header;
  for (const auto& [key, value] : json::Node(document, where).object()) {
    if (key == kMetadataKey) {
      const json::Node metadata(value, fmt::format("{}: {}", where, kMetadataKey));
      for (const auto& [name, text_value] : metadata.object()) {
        if (!text_value.is_string())
          metadata.fail(
              fmt::format("has a value that is not a string at '{}'", escape_for_terminal(name)));
        header.metadata.emplace(name, text_value.get_string());
      }
      continue;
    }
    const json::Node node(value, fmt::format("{}: tensor '{}'", where, escape_for_terminal(key)));
    header.tensors.push_back(read_tensor(key, node, data));
  }
  require_contiguous(header.tensors, data, where);
  return header;
}

json::value read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() > kMaxHeaderBytes) {
    throw Error(path.string(),
                fmt::format("has {} bytes, too many for a JSON file", file.bytes().size()));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  return json::parse(text, path.string());
}

/// Tensor name to shard, from model.safetensors.index.json.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  const json::value document = read_json(path);
  const json::Node map = json::Node(document, path.string() + ":")["weight_map"];
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : map.object()) {
    const std::string_view name = shard.is_string() ? std::string_view(shard.get_string()) : "";
    // Shards are in the folder of their index. A path elsewhere is an attack or a mistake.
    if (!name.ends_with(".safetensors") ||
        name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
      map.fail(fmt::format(
          "assigns tensor '{}' to shard {}, which does not name a .safetensors file in this folder",
          escape_for_terminal(tensor), escape_for_terminal(json::serialize(shard))));
    }
    shard_of.emplace(tensor, name);
  }
  if (shard_of.empty()) map.fail("is empty");
  return shard_of;
}

}  // namespace

SafetensorsFile SafetensorsFile::from_bytes(std::span<const std::byte> bytes,
                                            const std::string& where) {
  Header header = read_header(bytes, where);
  SafetensorsFile file;
  file.tensors_ = FileTensors(std::move(header.tensors), where);
  file.metadata_ = std::move(header.metadata);
  return file;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  MappedFile mapped(path);
  SafetensorsFile file = from_bytes(mapped.bytes(), path.string());
  file.file_.push_back(std::move(mapped));
  return file;
}

Checkpoint Checkpoint::open(const std::filesystem::path& directory) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const auto config = directory / "config.json";
  if (!std::filesystem::exists(config)) {
    throw Error(directory.string(), "contains no config.json",
                "choose a checkpoint directory or a GGUF file");
  }
  checkpoint.config_ = read_json(config);
  const auto generation_config = directory / "generation_config.json";
  if (std::filesystem::exists(generation_config)) {
    checkpoint.generation_config_ = read_json(generation_config);
  }

  const auto single = directory / "model.safetensors";
  if (std::filesystem::exists(single)) {
    checkpoint.shards_.push_back(SafetensorsFile::open(single));
    const FileTensors& tensors = checkpoint.shards_[0].tensors();
    checkpoint.tensors_ = FileTensors({tensors.begin(), tensors.end()}, single.string());
    return checkpoint;
  }
  const auto index = directory / "model.safetensors.index.json";
  if (!std::filesystem::exists(index)) {
    throw Error(directory.string(),
                "contains neither model.safetensors nor model.safetensors.index.json",
                "download the weights");
  }
  const auto shard_of = read_index(index);
  std::map<std::string, size_t> shards;  // name to index into shards_
  for (const auto& [tensor, shard] : shard_of) shards.emplace(shard, 0);
  std::vector<FileTensor> all;
  for (auto& [name, number] : shards) {
    if (!std::filesystem::exists(directory / name)) {
      throw Error((directory / name).string(), "this shard is missing",
                  fmt::format("put all {} shards into one folder", shards.size()));
    }
    number = checkpoint.shards_.size();
    const auto& tensors =
        checkpoint.shards_.emplace_back(SafetensorsFile::open(directory / name)).tensors();
    all.insert(all.end(), tensors.begin(), tensors.end());
  }
  for (const auto& [tensor, shard] : shard_of) {
    if (!checkpoint.shards_[shards.at(shard)].tensors().find(tensor)) {
      throw Error(index.string(),
                  fmt::format("assigns tensor '{}' to {}, which does not contain it",
                              escape_for_terminal(tensor), escape_for_terminal(shard)));
    }
  }
  checkpoint.tensors_ = FileTensors(std::move(all), directory.string());
  return checkpoint;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path) : file_(path) {}

void SafetensorsWriter::add_tensor(std::string_view name, std::string_view type,
                                   std::span<const int64_t> shape) {
  const Type* known = find_type(type);
  MXGPT_CHECK(!header_written_, "'{}' comes after the first bytes", name);
  MXGPT_CHECK(known && known->bits % 8 == 0, "'{}' cannot be written as {}", name, type);
  MXGPT_CHECK(!header_.contains(name), "'{}' is added twice", name);
  uint64_t bytes = static_cast<uint64_t>(known->bits) / 8;
  for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
  header_[name] = {{"dtype", type},
                   {"shape", json::array(shape.begin(), shape.end())},
                   {"data_offsets", {declared_, declared_ + bytes}}};
  declared_ += bytes;
}

void SafetensorsWriter::write_header() {
  header_written_ = true;
  std::string text = json::serialize(header_);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  const uint64_t size = text.size();
  file_.write(std::as_bytes(std::span(&size, 1)));
  file_.write(text);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (!header_written_) write_header();
  MXGPT_CHECK(bytes.size() <= declared_ - written_, "{} bytes after the last tensor", bytes.size());
  file_.write(bytes);
  written_ += bytes.size();
}

void SafetensorsWriter::finish() {
  if (!header_written_) write_header();
  MXGPT_CHECK(written_ == declared_, "{} bytes of {} are written", written_, declared_);
  file_.commit();
}

}  // namespace mxgpt::io
