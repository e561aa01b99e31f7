#include "model/plan.h"

#include <fmt/format.h>

#include "base/error.h"

namespace mxgpt {

Format kv_format(const Config& config, const RunnerOptions& options) {
  const Format format =
      options.kv.value_or(options.precision == Precision::exact ? Format::f32 : Format::f16);
  const FormatTraits& t = traits(format);
  if (format != Format::f32 && format != Format::f16 && format != Format::bf16 &&
      format != Format::q8_0) {
    throw Error("--kv", fmt::format("a KV cache cannot be {}", t.name),
                "take f16, bf16, q8_0 or f32");
  }
  if (config.head_dim % t.block_elements != 0) {
    throw Error("--kv",
                fmt::format("{} has blocks of {} numbers, which do not divide this model's heads "
                            "of {}",
                            t.name, t.block_elements, config.head_dim),
                "take f16 or bf16");
  }
  return format;
}

int64_t kv_page_bytes(const Config& c, const RunnerOptions& options) {
  return kPageTokens * c.kv_heads * traits(kv_format(c, options)).row_bytes(c.head_dim);
}

}  // namespace mxgpt
