// Format conversion for Python tests, from standard input to standard output:
//   quant_convert list                           one line per format: name, ggml type, elements and
//                                                bytes per block, whether it can be written
//   quant_convert dequantize NAME                blocks to f32
//   quant_convert quantize NAME [IMPORTANCE]     f32 to blocks; IMPORTANCE is a file of as many f32
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "quant/format.h"

namespace mxgpt::quant {
namespace {

std::vector<std::byte> read_all() {
  std::vector<std::byte> bytes;
  std::byte buffer[1 << 16];
  for (ssize_t n; (n = ::read(STDIN_FILENO, buffer, sizeof buffer)) > 0;) {
    bytes.insert(bytes.end(), buffer, buffer + n);
  }
  return bytes;
}

void list() {
  for (int i = 0; i < kFormatCount; ++i) {
    const FormatTraits& t = traits(static_cast<Format>(i));
    fmt::print("{} {} {} {} {}\n", t.name, t.ggml_type, t.block_elements, t.block_bytes,
               t.quantize ? 1 : 0);
  }
}

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "list") {
    list();
    return 0;
  }
  const auto format = format_from_name(argc > 2 ? argv[2] : "");
  if (!format) throw Error("quant_convert", "unknown format");
  const FormatTraits& t = traits(*format);
  const std::vector<std::byte> in = read_all();
  std::vector<std::byte> out;
  if (command == "dequantize") {
    const int64_t elements = static_cast<int64_t>(in.size()) / t.block_bytes * t.block_elements;
    out.resize(static_cast<size_t>(elements) * sizeof(float));
    t.dequantize(in.data(), elements, reinterpret_cast<float*>(out.data()));
  } else if (command == "quantize" && t.quantize) {
    const int64_t elements = static_cast<int64_t>(in.size() / sizeof(float));
    std::optional<MappedFile> importance;
    if (argc > 3) importance.emplace(argv[3]);
    out.resize(static_cast<size_t>(t.row_bytes(elements)));
    t.quantize(reinterpret_cast<const float*>(in.data()), elements,
               importance ? reinterpret_cast<const float*>(importance->bytes().data()) : nullptr,
               out.data());
  } else {
    throw Error("quant_convert", "unknown command");
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace
}  // namespace mxgpt::quant

int main(int argc, char** argv) try {
  return mxgpt::quant::main(argc, argv);
} catch (const std::exception& e) {
  fmt::print(stderr, "{}\n", e.what());
  return 1;
}
