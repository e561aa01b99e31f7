// Memory that a model needs on the CPU, and how much of it a token reads. Reads no weights.
//
// Memory means the peak resident set (VmHWM in /proc/PID/status):
// - mapped weights: file pages (RssFile), which the system may evict and read again;
// - private weights: repacked, converted or copied (RssAnon);
// - KV cache and workspace (RssAnon): resident as they are used, counted in full;
// - the program, its vocabulary and the text of a context: estimates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

/// Format of the KV cache: as requested, else f32 in exact precision and f16 otherwise. Throws
/// Error for other formats than f16, bf16, f32 and q8_0, or if the head size is not a multiple of
/// the block.
quant::Format kv_format(const model::Config& config, const RunnerOptions& options);
/// Bytes of a page of keys, or of values, of one layer.
int64_t kv_page_bytes(const model::Config& config, const RunnerOptions& options);

struct HostMemoryPlan {
  struct WeightGroup {
    std::string_view name;  ///< "attention"
    int64_t tensors = 0;
    size_t mapped_bytes = 0, private_bytes = 0;
  };
  struct KvCache {
    int64_t layers = 0;
    size_t bytes_per_token = 0;  ///< for all layers of the group
    size_t bytes = 0;
  };

  std::vector<WeightGroup> weights;  ///< without empty groups
  KvCache kv[backend::kKvGroups];    ///< by KvGroup
  size_t workspace = 0;
  size_t program = 0;  ///< estimated

  size_t mapped_weights() const;
  size_t private_weights() const;
  size_t kv_bytes() const;
  size_t total() const;
};

/// Plans a runner of the model with these options. Throws Error as loading would.
HostMemoryPlan plan_host_memory(const Model& model, const RunnerOptions& options);

/// Minimum bytes read to decode one token.
struct DecodeTraffic {
  size_t weights = 0;  ///< only the top_k experts
  size_t kv = 0;

  size_t total() const { return weights + kv; }
};
DecodeTraffic decode_traffic(const Model& model, const RunnerOptions& options, int64_t depth);

}  // namespace mxgpt::runtime
