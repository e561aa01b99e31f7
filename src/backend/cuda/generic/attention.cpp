#include "backend/cuda/generic/attention.h"

#include "backend/cuda/generic/kernels.h"
#include "base/check.h"

namespace mxgpt::cuda {

void enqueue_rope_store(Step& step, const backend::AttentionBlock& op,
                        const AttentionWorkspace& w) {
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  step.enqueue("qk_norm_rope_store_kv", qk_norm_rope_store_kv,
               {.q = w.q,
                .k = w.kv_proj[0],
                .v = w.kv_proj[1],
                .q_norm = op.q_norm,
                .k_norm = op.k_norm,
                .rows = step.rows(),
                .heads = op.heads,
                .kv_heads = op.kv_heads,
                .head_dim = op.head_dim,
                .rope_style = op.rope_style,
                .cos = op.cos,
                .sin = op.sin,
                .kv = op.kv,
                .positions = step.positions(),
                .slots = step.slots(),
                .table = step.table(op.kv.group),
                .stride = step.table_stride()});
}

void enqueue_paged_attention(Step& step, const backend::AttentionBlock& op,
                             const AttentionWorkspace& w) {
  const PagedAttention params{.op = op.attention(w.q, w.attn_out),
                              .rows = step.rows(),
                              .positions = step.positions(),
                              .slots = step.slots(),
                              .table = step.table(op.kv.group),
                              .stride = step.table_stride(),
                              .splits = w.splits};
  step.enqueue("paged_attention",
               [&](CudaStream stream) { paged_attention(params, step.max_position(), stream); });
}

}  // namespace mxgpt::cuda
