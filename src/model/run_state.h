// What a forward works in.
#pragma once

#include <vector>

#include "backend/ops.h"
#include "model/config.h"
#include "runtime/runner.h"

namespace mxgpt::model {

/// RoPE of a kind of layers, and its cos and sin for the rows of the step.
struct RopeCache {
  backend::Rope rope;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;
};

/// Activations of one step, and the KV cache; in the memory of the backend.
struct RunState {
  float* x;                          ///< [rows, hidden]
  float* q;                          ///< [rows, heads, head_dim]
  float* attn_out;                   ///< [rows, heads, head_dim]
  float* logits;                     ///< [logit_rows, vocabulary]
  std::vector<backend::KvLayer> kv;  ///< [layers]

  std::vector<RopeCache> rope_caches;  ///< one if all layers rotate alike, else by KvGroup

  const RopeCache& rope_cache(backend::KvGroup group) const {
    return rope_caches[rope_caches.size() == 1 ? 0 : static_cast<int>(group)];
  }
};

/// How many Rotary a model has.
inline size_t rope_cache_count(const Config& config) {
  return config.rope_for(backend::KvGroup::full) == config.rope_for(backend::KvGroup::window)
             ? 1
             : backend::kKvGroups;
}

}  // namespace mxgpt::model
