// The interface of a backend: the blocks of a transformer over one batch. The contract:
//  - a block enqueues work and returns; it neither allocates nor synchronizes;
//  - it is correct for any mix of prefill and decode rows;
//  - a row's result does not depend on the other rows of the batch;
//  - what one block leaves for another stands in its parameters.
// The blocks follow the reference models: embed, then per layer attention_block and mlp_block or
// moe_block, then lm_head.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/ops.h"

namespace mxgpt::backend {

/// Upper bounds of the steps of one model. A backend allocates for them once.
struct MaxShapes {
  int64_t rows = 0;        ///< per batch
  int64_t sequences = 1;   ///< per batch
  int64_t context = 0;     ///< tokens per sequence
  int64_t vocabulary = 0;  ///< token ids
  int64_t hidden = 0;
  int64_t max_linear_width = 0;  ///< longest row read or written by a projection outside the MLP,
                                 ///< the LM head's logits excepted
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;   ///< 0 for dense models
  int64_t heads = 0, head_dim = 0;  ///< 0: the backend runs no attention

  /// Rows of an MLP's inner activations: one per selected expert of each batch row.
  int64_t mlp_rows() const { return rows * (experts ? top_k : 1); }
  /// KV pages per sequence.
  int64_t pages() const { return (context + kPageTokens - 1) / kPageTokens; }
};

/// One per runner; runs one step at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  /// Makes `batch` the one that the blocks refer to until the next call. It must outlive them.
  virtual void begin_step(const Batch& batch) = 0;

  virtual void embed(const Embed& op) = 0;
  virtual void rope_cos_sin(const RopeCosSin& op) = 0;
  virtual void attention_block(const AttentionBlock& op) = 0;
  virtual void mlp_block(const MlpBlock& op) = 0;
  virtual void moe_block(const MoeBlock& op) = 0;
  virtual void lm_head(const LmHead& op) = 0;
};

}  // namespace mxgpt::backend
