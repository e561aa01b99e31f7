#include "quant/recipe.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::quant {

namespace {

using enum Format;

// Types per tensor and file type numbers follow llama.cpp (src/llama-quant.cpp, include/llama.h,
// 2026), where the output head of a quantized model is also Q6_K or better.
constexpr Recipe kRecipes[] = {
    {"mxfp4-moe", "experts MXFP4, everything else Q8_0", 38, q8_0, q8_0, mxfp4},
    {"mxfp4-all", "MXFP4 for embedding, attention, MLPs, experts and head", 38, mxfp4, mxfp4,
     mxfp4},
    {"q8_0", "Q8_0", 7, q8_0, q8_0, q8_0},
    {"q6_k", "Q6_K", 18, q6_k, q6_k, q6_k},
    {"q5_k_m", "Q5_K, Q6_K for the most sensitive tensors", 17, q5_k, q6_k, q5_k, q6_k},
    {"q4_k_m", "Q4_K, Q6_K for the most sensitive tensors", 15, q4_k, q6_k, q4_k, q6_k},
    {"q5_k", "Q5_K, head Q6_K", 16, q5_k, q6_k, q5_k},
    {"q4_k", "Q4_K, head Q6_K", 14, q4_k, q6_k, q4_k},
    {"q3_k", "Q3_K, head Q6_K", 11, q3_k, q6_k, q3_k},
    {"q2_k", "Q2_K, head Q6_K", 21, q2_k, q6_k, q2_k},
    {"q5_1", "Q5_1, head Q6_K", 9, q5_1, q6_k, q5_1},
    {"q5_0", "Q5_0, head Q6_K", 8, q5_0, q6_k, q5_0},
    {"q4_1", "Q4_1, head Q6_K", 3, q4_1, q6_k, q4_1},
    {"q4_0", "Q4_0, head Q6_K", 2, q4_0, q6_k, q4_0},
    {"iq4_nl", "IQ4_NL, head Q6_K", 25, iq4_nl, q6_k, iq4_nl},
    {"iq4_xs", "IQ4_XS, head Q6_K", 30, iq4_xs, q6_k, iq4_xs},
    {"bf16", "BF16: lossless for BF16 checkpoints and MXFP4", 32, bf16, bf16, bf16},
    {"f16", "F16", 1, f16, f16, f16},
    {"f32", "F32: lossless", 0, f32, f32, f32},
};

}  // namespace

std::span<const Recipe> recipes() {
  return kRecipes;
}

const Recipe& find_recipe(std::string_view name) {
  const auto found = std::find_if(std::begin(kRecipes), std::end(kRecipes), [&](const Recipe& r) {
    return r.name.size() == name.size() &&
           ::strncasecmp(r.name.data(), name.data(), name.size()) == 0;
  });
  if (found == std::end(kRecipes)) {
    throw Error(escape_for_terminal(name, 100), "unknown recipe",
                "`mxgpt quantize --help` lists them");
  }
  return *found;
}

FormatOverride FormatOverride::parse(std::string_view text) {
  const auto fail = [&](const std::string& problem) -> Error {
    return Error(field::kTensorFormat,
                 fmt::format("'{}' {}", escape_for_terminal(text, 200), problem),
                 "for example 'blk.*.attn_v.weight=q6_k'");
  };
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) throw fail("is not PATTERN=FORMAT");
  const std::string_view name = text.substr(equals + 1);
  const auto format = format_from_name(name);
  if (!format)
    throw fail(fmt::format("has the unknown format '{}'", escape_for_terminal(name, 60)));
  return {std::string(text.substr(0, equals)), *format};
}

bool FormatOverride::matches(std::string_view name) const {
  // Greedy matching that backtracks to the last star only: at worst O(pattern · name).
  size_t p = 0, n = 0;
  size_t star = std::string::npos, star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace mxgpt::quant
