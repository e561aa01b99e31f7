#include "model/plan.h"

namespace mxgpt {

Format kv_format(const RunnerOptions& options) {
  return options.precision == Precision::exact ? Format::f32 : Format::f16;
}

int64_t kv_page_bytes(const Config& c, const RunnerOptions& options) {
  return kPageTokens * c.kv_heads * traits(kv_format(options)).row_bytes(c.head_dim);
}

}  // namespace mxgpt
