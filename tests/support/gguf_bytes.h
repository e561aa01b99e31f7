// Builds GGUF files byte by byte, valid or with one fault.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace mxgpt {

struct GgufBytes {
  struct Tensor {
    std::string name = "t";
    std::vector<uint64_t> ne = {4};  // innermost first, as in the file
    uint32_t type = 0;               // F32
    uint64_t offset = 0;
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::string metadata = {};  // encoded by entry()
  uint64_t metadata_count = 0;
  std::vector<Tensor> tensors = {};
  uint64_t claimed_tensors = UINT64_MAX;   // UINT64_MAX: the actual number
  uint64_t claimed_metadata = UINT64_MAX;  // likewise
  uint64_t alignment = 32;                 // of the padding
  std::string data = std::string(64, 'x');

  template <class T>
  static std::string raw(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string text(std::string_view s) { return raw(uint64_t{s.size()}) + std::string(s); }

  GgufBytes& entry(std::string_view key, io::GgufType type, const std::string& value) {
    metadata += text(key) + raw(static_cast<uint32_t>(type)) + value;
    ++metadata_count;
    return *this;
  }
  GgufBytes& array(std::string_view key, uint32_t type, uint64_t size, const std::string& values) {
    return entry(key, io::GgufType::array, raw(type) + raw(size) + values);
  }
  GgufBytes& tensor(const Tensor& t) {
    tensors.push_back(t);
    return *this;
  }

  std::string build() const {
    std::string out = magic + raw(version);
    out += raw(claimed_tensors == UINT64_MAX ? uint64_t{tensors.size()} : claimed_tensors);
    out += raw(claimed_metadata == UINT64_MAX ? metadata_count : claimed_metadata);
    out += metadata;
    for (const Tensor& t : tensors) {
      out += text(t.name) + raw(static_cast<uint32_t>(t.ne.size()));
      for (const uint64_t extent : t.ne) out += raw(extent);
      out += raw(t.type) + raw(t.offset);
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

/// Opens a copy whose allocation ends with the bytes, so that AddressSanitizer detects over-reads,
/// and reads all of it. Returns the message of the Error, or "" if the file loads.
std::string open_and_read_all(std::string_view bytes);

}  // namespace mxgpt
