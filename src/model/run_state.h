// Activation buffers and KV cache of one runner.
#pragma once

#include <vector>

#include "backend/ops.h"
#include "model/config.h"

namespace mxgpt::model {

/// RoPE of one kind of layers, with cos and sin for the rows of the current step.
struct RopeCache {
  backend::Rope rope;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;  ///< [rows, head_dim / 2]
};

/// Buffers, in backend memory, that a forward pass hands from block to block.
struct RunState {
  float* x;                            ///< [rows, hidden]
  float* logits;                       ///< [logit_rows, vocabulary]
  float* router_partials = nullptr;    ///< see Router::partial_logits; null if the backend has none
  std::vector<backend::KvLayer> kv;    ///< [layers]
  std::vector<RopeCache> rope_caches;  ///< one if all layers share a RoPE, else one per KvGroup

  const RopeCache& rope_cache(backend::KvGroup group) const {
    return rope_caches[rope_caches.size() == 1 ? 0 : static_cast<int>(group)];
  }
};

/// Number of RopeCaches that a model needs.
inline size_t rope_cache_count(const Config& config) {
  return config.rope_for(backend::KvGroup::full) == config.rope_for(backend::KvGroup::window)
             ? 1
             : backend::kKvGroups;
}

}  // namespace mxgpt::model
