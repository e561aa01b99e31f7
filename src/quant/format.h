// Tensor formats: how weights are stored. A tensor consists of rows of `k` elements, a row of whole
// blocks.
//
// A format is a folder of quant/ and a line in format_list.h. The folder defines the block and its
// decoding (block_format.h), the quantizer, and how each instruction set unpacks blocks; the GEMM
// kernels of kernels/cpu and backend/cuda/generic are templates over that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "quant/format_list.h"

namespace mxgpt::quant {

enum class Format : uint8_t {
#define MXGPT_ENUMERATOR(folder) folder,
  MXGPT_FORMATS(MXGPT_ENUMERATOR)
#undef MXGPT_ENUMERATOR
};

#define MXGPT_COUNT(folder) +1
inline constexpr int kFormatCount = 0 MXGPT_FORMATS(MXGPT_COUNT);
#undef MXGPT_COUNT

/// Elements per quantization group. Blocks of quantized formats hold whole groups, and quantized
/// activations have one scale per group.
inline constexpr int kQuantGroup = 32;

struct FormatTraits {
  std::string_view name;  ///< as GGUF tools print it: "MXFP4"
  uint32_t ggml_type;     ///< type id in GGUF files
  int block_elements;
  int block_bytes;
  /// Decodes blocks to f32 in scalar code, the reference for all other kernels. `elements` is a
  /// multiple of block_elements.
  void (*dequantize)(const std::byte* blocks, int64_t elements, float* out);
  /// Encodes f32 as blocks; null if mxgpt cannot write the format. `importance`, unless null, holds
  /// one weight per element for its squared error, which formats with a choice of scales minimize.
  /// A block becomes NaN as a whole if it holds a NaN or an infinity, or a magnitude beyond f16
  /// where scales are f16. Floating-point formats keep such elements individually.
  void (*quantize)(const float* in, int64_t elements, const float* importance, std::byte* blocks);

  int64_t row_bytes(int64_t elements) const { return elements / block_elements * block_bytes; }
};

const FormatTraits& traits(Format format);

/// Empty for a type id without a format here.
std::optional<Format> format_from_ggml_type(uint32_t type);
/// Looks a format up by name, ignoring case ("mxfp4", "Q8_0"); empty if unknown.
std::optional<Format> format_from_name(std::string_view name);

}  // namespace mxgpt::quant
