// Opens arbitrary bytes as safetensors and reads all tensors.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mxgpt;
  volatile size_t sink = 0;
  try {
    const auto file = io::SafetensorsFile::from_bytes(std::as_bytes(std::span(data, size)), "fuzz");
    for (const io::FileTensor& tensor : file.tensors()) {
      for (const std::byte b : tensor.bytes) sink = sink + std::to_integer<size_t>(b);
    }
  } catch (const mxgpt::Error&) {
  }
  return 0;
}
