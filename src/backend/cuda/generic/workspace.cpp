#include "backend/cuda/generic/workspace.h"

#include <algorithm>

#include "backend/cuda/generic/kernels.h"

namespace mxgpt::cuda {

namespace {

/// Bytes for split states: enough for one sequence of the longest context, and for many of
/// medium length. Rows beyond that are not split.
constexpr int64_t kSplitStateBytes = 64 << 20;

}  // namespace

AttentionWorkspace::AttentionWorkspace(const backend::MaxShapes& m, DeviceArena& arena) {
  q = arena.allocate<float>(m.rows * m.heads * m.head_dim);
  attn_out = arena.allocate<float>(m.rows * m.heads * m.head_dim);
  for (float*& buffer : kv_proj) buffer = arena.allocate<float>(m.rows * m.max_linear_width);
  const int64_t row_splits =
      std::max<int64_t>(1, m.heads * ((m.context + kKvSplitTokens - 1) / kKvSplitTokens));
  const int64_t state_bytes = (m.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  splits.capacity =
      row_splits * std::max<int64_t>(1, kSplitStateBytes / (row_splits * state_bytes));
  splits.capacity = std::min(splits.capacity, m.rows * row_splits);
  splits.max_score = arena.allocate<float>(splits.capacity);
  splits.sum_exp = arena.allocate<float>(splits.capacity);
  splits.out = arena.allocate<float>(splits.capacity * m.head_dim);
}

RoutingWorkspace::RoutingWorkspace(const backend::MaxShapes& m, DeviceArena& arena) {
  const int64_t pairs = m.rows * m.top_k;
  router_logits = arena.allocate<float>(m.rows * m.experts);
  assignment = {.topk_ids = arena.allocate<int32_t>(pairs),
                .topk_weights = arena.allocate<float>(pairs),
                .expert_offsets = arena.allocate<int32_t>(m.experts + 1),
                .sorted_token_ids = arena.allocate<int32_t>(pairs),
                .inverse_permutation = arena.allocate<int32_t>(pairs)};
}

GenericWorkspace::GenericWorkspace(const backend::MaxShapes& m, DeviceArena& arena)
    : attention(m, arena),
      routing(m, arena),
      normed(arena.allocate<float>(m.rows * m.hidden)),
      gate(arena.allocate<float>(m.mlp_rows() * m.intermediate)),
      up(arena.allocate<float>(m.mlp_rows() * m.intermediate)),
      down(arena.allocate<float>(m.mlp_rows() * m.hidden)) {}

}  // namespace mxgpt::cuda
