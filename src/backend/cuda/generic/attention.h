// The portable attention of a block, between its projections: shared by the CUDA backends.
#pragma once

#include "backend/cuda/generic/workspace.h"
#include "backend/cuda/step.h"

namespace mxgpt::cuda {

/// Norms and rotates the heads of w.q and w.kv_proj[0] (keys), and stores keys and w.kv_proj[1]
/// (values) in the cache.
void enqueue_rope_store(Step& step, const backend::AttentionBlock& op, const AttentionWorkspace& w);
/// w.attn_out = attention(w.q)
void enqueue_paged_attention(Step& step, const backend::AttentionBlock& op,
                             const AttentionWorkspace& w);

}  // namespace mxgpt::cuda
