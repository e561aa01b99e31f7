// How much memory a model takes on the CPU, said before it is taken, and how much of it a token
// reads. Nothing here touches weights.
//
// Memory is what the system counts as resident (VmHWM in /proc/PID/status, the largest so far):
//  - mapped weights: pages of the file (RssFile), which the system may drop and read again;
//  - own weights: repacked, converted or copied, and of no file (RssAnon);
//  - KV cache and workspace (RssAnon), as far as they were used yet: the plan counts them whole;
//  - the program itself, its vocabulary and a context's text, which are estimates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

/// What the KV cache holds: what the options ask for, else f32 in exact precision and f16
/// otherwise. Throws Error if that is not f16, bf16, f32 or q8_0, or if heads are not whole blocks
/// of it.
quant::Format kv_format(const model::Config& config, const RunnerOptions& options);
/// Bytes of one page of one layer's keys, or values. Runners allocate by it.
int64_t kv_page_bytes(const model::Config& config, const RunnerOptions& options);

struct HostMemoryPlan {
  struct WeightGroup {
    std::string_view name;  ///< "attention"
    int64_t tensors = 0;
    size_t mapped_bytes = 0, private_bytes = 0;
  };
  struct KvCache {
    int64_t layers = 0;
    size_t bytes_per_token = 0;  ///< of all these layers
    size_t bytes = 0;
  };

  std::vector<WeightGroup> weights;  ///< parts that the model has
  KvCache kv[backend::kKvGroups];    ///< by KvGroup
  size_t workspace = 0;
  size_t program = 0;  ///< estimated

  size_t mapped_weights() const;
  size_t private_weights() const;
  size_t kv_bytes() const;
  size_t total() const;
};

/// Of a runner of the model with these options. Throws what loading the model would.
HostMemoryPlan plan_host_memory(const Model& model, const RunnerOptions& options);

/// What decoding one token of a sequence reads, at the least.
struct DecodeTraffic {
  size_t weights = 0;  ///< of the experts, those that a token chooses
  size_t kv = 0;

  size_t total() const { return weights + kv; }
};
DecodeTraffic decode_traffic(const Model& model, const RunnerOptions& options, int64_t depth);

}  // namespace mxgpt::runtime
