#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>

#include "base/byte_reader.h"
#include "base/error.h"
#include "base/escape.h"
#include "io/ggml_types.h"

namespace mxgpt::io {

namespace {

// Far above any model. They bound the memory that a malicious header can request.
constexpr uint64_t kMaxEntries = 1 << 17;
constexpr size_t kMaxNameBytes = 65535;  // limit for keys in docs/gguf.md
constexpr uint32_t kMaxDimensions = 4;
constexpr uint32_t kMaxAlignment = 1u << 30;  // the largest page size of any machine

constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::string_view kSplitNumberKey = "split.no";
constexpr std::string_view kSplitCountKey = "split.count";
constexpr std::string_view kSplitTensorsKey = "split.tensors.count";

struct Shard {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<FileTensor> tensors;
};

std::string_view read_string(ByteReader& in) {
  const auto bytes = in.read_bytes(in.read<uint64_t>());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads a key or a tensor name.
std::string_view read_name(ByteReader& in) {
  const std::string_view name = read_string(in);
  if (name.empty()) in.fail("has an empty name");
  if (name.size() > kMaxNameBytes) in.fail(fmt::format("has a name of {} bytes", name.size()));
  return name;
}

GgufType read_type(ByteReader& in) {
  const uint32_t type = in.read<uint32_t>();
  if (type > static_cast<uint32_t>(GgufType::f64)) {
    in.fail(fmt::format("has the unknown value type {}", type));
  }
  return static_cast<GgufType>(type);
}

GgufValue read_value(ByteReader& in) {
  GgufValue value{.type = read_type(in), .is_array = false, .size = 1, .bytes = {}};
  if (value.type == GgufType::array) {
    value.is_array = true;
    value.type = read_type(in);
    if (value.type == GgufType::array)
      in.fail("is an array of arrays, which mxgpt does not support");
    const uint64_t size = in.read<uint64_t>();
    // Every element takes at least a byte. A size that passes therefore fits into the file and a
    // size_t, and the product below does not overflow.
    const size_t smallest =
        value.type == GgufType::string ? sizeof(uint64_t) : type_bytes(value.type);
    if (size > in.remaining() / smallest) {
      in.fail(fmt::format("claims {} elements, but only {} bytes are left", size, in.remaining()),
              "the file is damaged or incomplete, download it again");
    }
    value.size = static_cast<size_t>(size);
  }
  const size_t start = in.offset();
  if (value.type == GgufType::string) {
    for (size_t i = 0; i < value.size; ++i) read_string(in);
  } else {
    in.read_bytes(value.size * type_bytes(value.type));
  }
  value.bytes = in.bytes_since(start);
  if (value.type == GgufType::boolean) {
    for (const std::byte b : value.bytes) {
      if (b > std::byte{1})
        in.fail(fmt::format("is {} where a bool is 0 or 1", std::to_integer<int>(b)));
    }
  }
  return value;
}

uint32_t read_version(ByteReader& in) {
  const auto magic = in.read_bytes(kGgufMagic.size());
  if (!std::equal(magic.begin(), magic.end(),
                  reinterpret_cast<const std::byte*>(kGgufMagic.data()))) {
    in.fail("does not begin with 'GGUF'", "choose a GGUF file");
  }
  const uint32_t version = in.read<uint32_t>();
  if (version != 0 && version % 65536 == 0) {
    in.fail("is big-endian; mxgpt supports only little-endian GGUF files",
            "convert it with gguf-convert-endian from the Python package gguf");
  }
  if (version != 2 && version != 3) {
    in.fail(fmt::format("has GGUF version {}; mxgpt reads versions 2 and 3", version),
            version == 1 ? "convert the model again" : "");
  }
  return version;
}

uint64_t read_count(ByteReader& in, std::string_view of) {
  const uint64_t count = in.read<uint64_t>();
  // An entry takes at least 14 bytes: the length of a name, the name, a type and a value.
  const uint64_t limit = std::min<uint64_t>(kMaxEntries, in.remaining() / 14);
  if (count > limit) {
    in.fail(fmt::format("claims {} {}, but the file has room for at most {}", count, of, limit),
            "the file is damaged or incomplete, download it again");
  }
  return count;
}

uint32_t read_alignment(const GgufMetadata& metadata) {
  const int64_t alignment = metadata.integer_or(kAlignmentKey, kGgufDefaultAlignment, 0,
                                                std::numeric_limits<uint32_t>::max());
  if (!std::has_single_bit(static_cast<uint64_t>(alignment)) || alignment > kMaxAlignment) {
    metadata.fail(kAlignmentKey,
                  fmt::format("is {}, not a power of two up to {}", alignment, kMaxAlignment));
  }
  return static_cast<uint32_t>(alignment);
}

/// A tensor's entry in the header, checked for consistency. Its offset is checked later.
struct TensorInfo {
  FileTensor tensor;
  uint64_t offset;  // from the start of the data
  uint64_t bytes;
};

TensorInfo read_tensor_info(ByteReader& in, uint64_t index) {
  in.set_context(fmt::format("the entry of tensor {}", index));
  TensorInfo info;
  FileTensor& tensor = info.tensor;
  tensor.name = read_name(in);
  in.set_context(fmt::format("tensor '{}'", escape_for_terminal(tensor.name)));

  const uint32_t dimensions = in.read<uint32_t>();
  if (dimensions > kMaxDimensions) {
    in.fail(fmt::format("has {} dimensions; GGUF allows at most {}", dimensions, kMaxDimensions));
  }
  uint64_t elements = 1;
  tensor.shape.resize(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const uint64_t extent = in.read<uint64_t>();
    if (extent == 0) in.fail(fmt::format("has size 0 in dimension {}", i));
    if (__builtin_mul_overflow(elements, extent, &elements) ||
        elements > uint64_t{std::numeric_limits<int64_t>::max()}) {
      in.fail(fmt::format("has more than 2^63 elements: size {} in dimension {}", extent, i));
    }
    tensor.shape[dimensions - 1 - i] = static_cast<int64_t>(extent);
  }

  const uint32_t id = in.read<uint32_t>();
  const auto type = ggml_type(id);
  if (!type) in.fail(fmt::format("has the unknown type {}", id));
  tensor.type = type->name;
  tensor.format = type->format;
  const uint64_t row = dimensions == 0 ? 1 : static_cast<uint64_t>(tensor.shape.back());
  if (row % type->block_elements != 0) {
    in.fail(fmt::format("has rows of {} elements, not a multiple of the {}-element block ({})", row,
                        type->block_elements, type->name));
  }
  if (__builtin_mul_overflow(elements / type->block_elements, uint64_t(type->block_bytes),
                             &info.bytes)) {
    in.fail(fmt::format("needs more than 2^64 bytes for the shape {}", format_shape(tensor.shape)));
  }
  info.offset = in.read<uint64_t>();
  return info;
}

/// Assigns each tensor its bytes of `data`. Throws Error if a tensor is out of bounds, misaligned
/// or overlaps another.
void assign_tensor_data(std::vector<TensorInfo>& infos, std::span<const std::byte> data,
                        uint32_t alignment, const std::string& where) {
  const auto fail = [&](const TensorInfo& info, const std::string& what,
                        const std::string& advice = {}) {
    throw Error(where, fmt::format("tensor '{}' {}", escape_for_terminal(info.tensor.name), what),
                advice);
  };
  for (TensorInfo& info : infos) {
    if (info.offset % alignment != 0) {
      fail(info, fmt::format("has offset {}, not a multiple of the alignment {}", info.offset,
                             alignment));
    }
    if (info.offset > data.size() || info.bytes > data.size() - info.offset) {
      fail(info,
           fmt::format("has {} bytes at offset {}, past the end of the data at {}", info.bytes,
                       info.offset, data.size()),
           "the file is damaged or incomplete, download it again");
    }
    info.tensor.bytes = data.subspan(info.offset, info.bytes);
  }
  std::vector<const TensorInfo*> by_offset;
  for (const TensorInfo& info : infos) by_offset.push_back(&info);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo &a = *by_offset[i - 1], &b = *by_offset[i];
    if (a.offset + a.bytes > b.offset) {
      fail(b, fmt::format("at offset {} overlaps tensor '{}', which has {} bytes at offset {}",
                          b.offset, escape_for_terminal(a.tensor.name), a.bytes, a.offset));
    }
  }
}

Shard read_shard(std::span<const std::byte> bytes, const std::string& where) {
  ByteReader in(bytes, where);
  Shard shard;
  shard.version = read_version(in);
  shard.metadata = GgufMetadata(where);
  const uint64_t tensors = read_count(in, "tensors");
  const uint64_t entries = read_count(in, "metadata entries");
  for (uint64_t i = 0; i < entries; ++i) {
    in.set_context(fmt::format("metadata entry {}", i));
    const std::string_view key = read_name(in);
    in.set_context(fmt::format("metadata '{}'", escape_for_terminal(key)));
    shard.metadata.add(key, read_value(in));
  }
  std::vector<TensorInfo> infos;
  for (uint64_t i = 0; i < tensors; ++i) infos.push_back(read_tensor_info(in, i));

  const uint64_t alignment = read_alignment(shard.metadata);
  const uint64_t start = (in.offset() + alignment - 1) / alignment * alignment;
  // A file without tensors may end directly after its header.
  const auto data = start > bytes.size() ? std::span<const std::byte>() : bytes.subspan(start);
  assign_tensor_data(infos, data, static_cast<uint32_t>(alignment), where);
  for (TensorInfo& info : infos) shard.tensors.push_back(std::move(info.tensor));
  return shard;
}

int64_t split_count(const GgufMetadata& metadata) {
  return metadata.integer_or(kSplitCountKey, 1, 0, 65535);  // u16 in the files of gguf-split
}

/// The parts of "name-00002-of-00003.gguf".
struct ShardName {
  std::filesystem::path directory;
  std::string prefix;
  int number;  // from 1
  int count;

  std::filesystem::path path(int of) const {
    return directory / fmt::format("{}-{:05}-of-{:05}.gguf", prefix, of, count);
  }
};

std::optional<ShardName> parse_shard_name(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (name.size() < kPattern.size()) return std::nullopt;
  const size_t start = name.size() - kPattern.size();
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const char c = name[start + i];
    if (kPattern[i] == '0' ? c < '0' || c > '9' : c != kPattern[i]) return std::nullopt;
  }
  ShardName parts{path.parent_path(), name.substr(0, start), 0, 0};
  std::from_chars(&name[start + 1], &name[start + 6], parts.number);
  std::from_chars(&name[start + 10], &name[start + 15], parts.count);
  if (parts.number < 1 || parts.number > parts.count) return std::nullopt;
  return parts;
}

/// The paths of all shards. Throws Error if the metadata of the opened shard contradicts its name.
std::vector<std::filesystem::path> sibling_paths(const std::filesystem::path& path,
                                                 const GgufMetadata& metadata) {
  const int64_t count = split_count(metadata);
  const int64_t number = metadata.integer(kSplitNumberKey, 0, count - 1) + 1;
  const auto name = parse_shard_name(path);
  if (!name || name->count != count || name->number != number) {
    throw Error(path.string(),
                fmt::format("is shard {} of {}, but its name does not end in -{:05}-of-{:05}.gguf",
                            number, count, number, count),
                "restore the published names of the shards");
  }
  auto paths = gguf_shard_paths(path);
  for (const auto& shard : paths) {
    if (!std::filesystem::exists(shard)) {
      throw Error(shard.string(), "this shard is missing",
                  fmt::format("put all {} shards into one folder", count));
    }
  }
  return paths;
}

}  // namespace

std::vector<std::filesystem::path> gguf_shard_paths(const std::filesystem::path& path) {
  const auto name = parse_shard_name(path);
  if (!name) return {path};
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i <= name->count; ++i) paths.push_back(name->path(i));
  return paths;
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::array<char, kGgufMagic.size()> start{};
  std::ifstream file(path, std::ios::binary);
  return file.read(start.data(), start.size()) &&
         std::string_view(start.data(), start.size()) == kGgufMagic;
}

GgufFile GgufFile::from_bytes(std::span<const std::byte> bytes, const std::string& where) {
  Shard shard = read_shard(bytes, where);
  if (split_count(shard.metadata) > 1) {
    shard.metadata.fail(kSplitCountKey, "makes this file a shard, which cannot be read alone");
  }
  GgufFile file;
  file.version_ = shard.version;
  file.metadata_ = std::move(shard.metadata);
  file.tensors_ = FileTensors(std::move(shard.tensors), where);
  return file;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.shards_.emplace_back(path);
  Shard opened = read_shard(file.shards_[0].bytes(), path.string());
  const int64_t count = split_count(opened.metadata);
  if (count <= 1) {
    file.version_ = opened.version;
    file.metadata_ = std::move(opened.metadata);
    file.tensors_ = FileTensors(std::move(opened.tensors), path.string());
    return file;
  }
  const auto paths = sibling_paths(path, opened.metadata);
  file.shards_.clear();
  std::vector<FileTensor> tensors;
  for (int64_t i = 0; i < count; ++i) {
    const auto& mapped = file.shards_.emplace_back(paths[i]);
    Shard shard = read_shard(mapped.bytes(), paths[i].string());
    if (split_count(shard.metadata) != count) {
      shard.metadata.fail(kSplitCountKey, fmt::format("is not {} as in {}", count, path.string()));
    }
    shard.metadata.integer(kSplitNumberKey, i, i);
    std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(tensors));
    if (i > 0) continue;
    file.version_ = shard.version;
    file.metadata_ = std::move(shard.metadata);
  }
  const int64_t expected = file.metadata_.integer(kSplitTensorsKey, 0, kMaxEntries);
  if (static_cast<size_t>(expected) != tensors.size()) {
    file.metadata_.fail(kSplitTensorsKey,
                        fmt::format("is {}, but the shards hold {}", expected, tensors.size()));
  }
  file.tensors_ = FileTensors(std::move(tensors), path.string());
  return file;
}

}  // namespace mxgpt::io
