// What a forward works in.
#pragma once

#include <vector>

#include "backend/ops.h"
#include "model/config.h"
#include "model/runner.h"

namespace mxgpt {

/// RoPE of a kind of layers, and its cos and sin for the rows of the step.
struct Rotary {
  Rope rope;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;
};

/// Activations of one step, and the KV cache; in the memory of the backend.
struct StepMemory {
  float* x;                 ///< [rows, hidden]
  float* q;                 ///< [rows, heads, head_dim]
  float* attended;          ///< [rows, heads, head_dim]
  float* logits;            ///< [logit_rows, vocabulary]
  std::vector<KvLayer> kv;  ///< [layers]

  std::vector<Rotary> rotaries;  ///< one if all layers rotate alike, else by KvGroup

  const Rotary& rotary(KvGroup group) const {
    return rotaries[rotaries.size() == 1 ? 0 : static_cast<int>(group)];
  }
};

/// How many Rotary a model has.
inline size_t rotaries(const Config& config) {
  return config.rope_of(KvGroup::full) == config.rope_of(KvGroup::window) ? 1 : kKvGroups;
}

}  // namespace mxgpt
