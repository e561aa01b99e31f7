// How much memory a model takes on the CPU, said before it is taken. Runners and sessions allocate
// by the functions here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/config.h"
#include "model/runner.h"

namespace mxgpt {

/// What the KV cache holds: what the options ask for, else f32 in exact precision and f16
/// otherwise. Throws Error if that is not f16, bf16, f32 or q8_0, or if heads are not whole blocks
/// of it.
Format kv_format(const Config& config, const RunnerOptions& options);
/// Bytes of one page of one layer's keys, or values.
int64_t kv_page_bytes(const Config& config, const RunnerOptions& options);

}  // namespace mxgpt
