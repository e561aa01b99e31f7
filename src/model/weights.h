// The weights of a model in the memory of one backend.
#pragma once

#include <vector>

#include "backend/tensor.h"

namespace mxgpt::model {

/// One transformer block. A tensor that an architecture lacks stays empty. "[experts][...]" has no
/// expert dimension in dense models.
struct Layer {
  backend::Tensor attn_norm, attn_norm_bias;     ///< [hidden]
  backend::Tensor q, q_bias;                     ///< [heads * head_dim, hidden]
  backend::Tensor k, k_bias, v, v_bias;          ///< [kv_heads * head_dim, hidden]
  backend::Tensor qkv, qkv_bias;                 ///< q, k and v fused, rows in this order
  backend::Tensor q_norm, k_norm;                ///< [head_dim]
  backend::Tensor sinks;                         ///< [heads]
  backend::Tensor o, o_bias;                     ///< [hidden, heads * head_dim]
  backend::Tensor attn_post_norm;                ///< [hidden]
  backend::Tensor mlp_norm, mlp_norm_bias;       ///< [hidden]
  backend::Tensor router, router_bias;           ///< [experts, hidden]
  backend::Tensor gate, gate_bias, up, up_bias;  ///< [experts][intermediate, hidden]
  backend::Tensor gate_up;                       ///< gate and up fused, gate's rows first
  backend::Tensor down, down_bias;               ///< [experts][hidden, intermediate]
  backend::Tensor mlp_post_norm;                 ///< [hidden]
};

struct Weights {
  backend::Tensor embedding;           ///< [vocabulary, hidden]
  backend::Tensor position_embedding;  ///< [context, hidden]; only if learned
  std::vector<Layer> layers;
  backend::Tensor final_norm, final_norm_bias;  ///< [hidden]
  backend::Tensor lm_head;                      ///< [vocabulary, hidden]; empty if tied
  backend::Tensor rope_freq_factors;            ///< [head_dim / 2]; runners use Config::rope

  /// The embedding serves as the head if the two are tied.
  const backend::Tensor& lm_head_or_embedding() const { return lm_head ? lm_head : embedding; }
};

}  // namespace mxgpt::model
