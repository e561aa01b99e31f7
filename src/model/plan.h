// How much memory a model takes on the CPU, said before it is taken. Runners and sessions allocate
// by the functions here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/config.h"
#include "model/runner.h"

namespace mxgpt {

/// How runners store keys and values.
Format kv_format(const RunnerOptions& options);
/// Bytes of one page of one layer's keys, or values.
int64_t kv_page_bytes(const Config& config, const RunnerOptions& options);

}  // namespace mxgpt
