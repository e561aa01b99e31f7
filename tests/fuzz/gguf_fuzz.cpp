// Opens arbitrary bytes as GGUF and reads all tensors and metadata.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "io/gguf.h"

namespace {

/// Keeps the optimizer from removing reads.
volatile size_t sink;

void read_all(std::span<const std::byte> bytes) {
  size_t sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<size_t>(b);
  sink = sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mxgpt;
  try {
    const auto file = io::GgufFile::from_bytes(std::as_bytes(std::span(data, size)), "fuzz.gguf");
    for (const io::FileTensor& tensor : file.tensors()) read_all(tensor.bytes);
    const io::GgufMetadata& metadata = file.metadata();
    for (const auto& [key, value] : metadata.entries()) {
      for (const io::GgufScalar& element : value.elements(value.size)) {
        if (const auto* text = std::get_if<std::string_view>(&element)) {
          read_all(std::as_bytes(std::span(*text)));
        }
      }
      try {
        if (value.type == io::GgufType::string && value.is_array) {
          for (const std::string_view s : metadata.strings(key)) sink = s.size();
        } else if (value.is_array) {
          sink = metadata.numbers(key).size();
          sink = metadata.integers(key, INT32_MIN, INT32_MAX).size();
        } else {
          sink = static_cast<size_t>(metadata.integer(key, 0, 1));
        }
      } catch (const mxgpt::Error&) {
      }
    }
  } catch (const mxgpt::Error&) {
  }
  return 0;
}
