// Quantization recipes: a format for each kind of tensor, and overrides by name pattern.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "quant/format.h"

namespace mxgpt::quant {

struct Recipe {
  std::string_view name;     ///< "q4_k_m"
  std::string_view summary;  ///< for help texts
  uint32_t file_type;        ///< general.file_type (llama.cpp, enum llama_ftype)
  Format base;               ///< default format
  Format lm_head;            ///< of the output head, and of a tied embedding
  Format experts;
  /// Format of attn_v and ffn_down in the layers that llama.cpp's "M" mixtures favour: the first
  /// and last eighth, and every third layer between.
  std::optional<Format> more_bits = {};
};

/// All recipes, the most common first.
std::span<const Recipe> recipes();
/// Finds a recipe by name, ignoring case. Throws Error if there is none.
const Recipe& find_recipe(std::string_view name);

/// "blk.*.attn_v.weight=q6_k": a format for all tensors whose GGUF name matches the pattern; *
/// matches any characters, ? matches one.
struct FormatOverride {
  std::string pattern;
  Format format;

  /// Throws Error if `text` is malformed.
  static FormatOverride parse(std::string_view text);
  bool matches(std::string_view name) const;
};

}  // namespace mxgpt::quant
