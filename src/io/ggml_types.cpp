#include "io/ggml_types.h"

namespace mxgpt::io {

namespace {

// Types of GGUF files without a format in quant/: integers, and quantizations that can only be
// listed and copied. Sizes from ggml's type traits (ggml/src/ggml.c). A type that gets a folder in
// quant/ is removed here.
constexpr struct {
  uint32_t id;
  GgmlType type;
} kUnsupportedTypes[] = {
    {16, {"IQ2_XXS", 256, 66, {}}}, {17, {"IQ2_XS", 256, 74, {}}}, {18, {"IQ3_XXS", 256, 98, {}}},
    {19, {"IQ1_S", 256, 50, {}}},   {21, {"IQ3_S", 256, 110, {}}}, {22, {"IQ2_S", 256, 82, {}}},
    {24, {"I8", 1, 1, {}}},         {25, {"I16", 1, 2, {}}},       {26, {"I32", 1, 4, {}}},
    {27, {"I64", 1, 8, {}}},        {28, {"F64", 1, 8, {}}},       {29, {"IQ1_M", 256, 56, {}}},
    {34, {"TQ1_0", 256, 54, {}}},   {35, {"TQ2_0", 256, 66, {}}},  {40, {"NVFP4", 64, 36, {}}},
    {41, {"Q1_0", 128, 18, {}}},
};

}  // namespace

std::optional<GgmlType> ggml_type(uint32_t id) {
  if (const auto format = quant::format_from_ggml_type(id)) {
    const quant::FormatTraits& t = quant::traits(*format);
    return GgmlType{t.name, t.block_elements, t.block_bytes, format};
  }
  for (const auto& other : kUnsupportedTypes) {
    if (other.id == id) return other.type;
  }
  return std::nullopt;
}

}  // namespace mxgpt::io
