// Tensor types of GGUF files by ggml id.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "quant/format.h"

namespace mxgpt::io {

struct GgmlType {
  std::string_view name;
  int block_elements;
  int block_bytes;
  std::optional<quant::Format> format;  ///< empty if only the sizes are known
};

/// Empty for an id that ggml has not assigned or has withdrawn.
std::optional<GgmlType> ggml_type(uint32_t id);

}  // namespace mxgpt::io
