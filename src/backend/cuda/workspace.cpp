#include "backend/cuda/workspace.h"

#include <algorithm>

#include "backend/cuda/generic/kernels.h"
#include "backend/cuda/sm90/decode.h"

namespace mxgpt::cuda {

namespace {

/// Room for the parts of attention: enough for one sequence of the longest context, and for many
/// of middling length. Rows beyond it are not cut into parts.
constexpr int64_t kSplitStateBytes = 64 << 20;

}  // namespace

Workspace::Workspace(const MaxShapes& limits, DeviceArena& room, const DeviceCaps& target,
                     bool fast) {
  const int64_t rows = limits.rows, pairs = rows * limits.top_k;
  batch_capacity = 4 * rows + backend::kKvGroups * limits.sequences * limits.pages();
  batch = room.allocate<int32_t>(batch_capacity);
  normed = room.allocate<float>(rows * limits.hidden);
  for (float*& buffer : kv_proj) buffer = room.allocate<float>(rows * limits.max_linear_width);
  gate = room.allocate<float>(limits.mlp_rows() * limits.intermediate);
  up = room.allocate<float>(limits.mlp_rows() * limits.intermediate);
  down = room.allocate<float>(limits.mlp_rows() * limits.hidden);
  router_logits = room.allocate<float>(rows * limits.experts);
  assignment = {.topk_ids = room.allocate<int32_t>(pairs),
                .topk_weights = room.allocate<float>(pairs),
                .expert_offsets = room.allocate<int32_t>(limits.experts + 1),
                .sorted_token_ids = room.allocate<int32_t>(pairs),
                .inverse_permutation = room.allocate<int32_t>(pairs)};
  const int64_t pieces = (limits.context + kKvSplitTokens - 1) / kKvSplitTokens;
  const int64_t part_bytes = (limits.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  splits.capacity = limits.heads * pieces *
                    std::max<int64_t>(1, kSplitStateBytes / (limits.heads * pieces * part_bytes));
  splits.capacity = std::min(splits.capacity, rows * limits.heads * pieces);
  splits.max_score = room.allocate<float>(splits.capacity);
  splits.sum_exp = room.allocate<float>(splits.capacity);
  splits.out = room.allocate<float>(splits.capacity * limits.head_dim);
  if (!fast) return;
  const auto experts = static_cast<int>(limits.experts);
  const auto kv_heads = static_cast<int>((limits.heads + sm90::kGqaGroup - 1) / sm90::kGqaGroup);
  // A piece is a function of the longest context alone, and there are at most 128.
  while (limits.pages() > int64_t{128} * pages_per_split) pages_per_split *= 2;
  const int64_t most_pieces = limits.pages() / pages_per_split + 1;
  constexpr int64_t kMostPadding = 320;  // of a row, by fast::gemm_columns
  bf16_activations = room.allocate<uint16_t>(
      std::max(rows * (std::max(limits.max_linear_width, limits.hidden) + kMostPadding),
               limits.mlp_rows() * (limits.intermediate + kMostPadding)));
  router_parts = room.allocate<float>(
      static_cast<int64_t>(sm90::router_part_floats(sm90::kMaxRows, experts, target.num_sms)));
  const auto hidden = static_cast<int>(limits.hidden);
  activated_bytes =
      sm90::kMaxRows *
      static_cast<int64_t>(sm90::activated_bytes(static_cast<int>(limits.intermediate)));
  moe_scratch = {.chosen = room.allocate<sm90::TopKResult>(sm90::kMaxRows),
                 .normed = room.allocate<uint8_t>(
                     static_cast<int64_t>(sm90::normed_bytes(sm90::kMaxRows, hidden))),
                 .activated = room.allocate<uint8_t>(activated_bytes),
                 .outs = room.allocate<float>(sm90::kMaxRows * sm90::kMaxTopK * limits.hidden)};
  // A few rows of the longest context, or many sequences of shorter ones at once.
  constexpr int64_t kFewPieces = 8, kMostTogether = 256;
  const auto scratch_of = [&](int64_t count) {
    return static_cast<int64_t>(sm90::attend_scratch_floats(1, kv_heads, static_cast<int>(count)));
  };
  const int64_t together = std::clamp<int64_t>(limits.sequences, sm90::kMaxRows, kMostTogether);
  attend_scratch_floats = std::max(sm90::kMaxRows * scratch_of(most_pieces),
                                   together * scratch_of(std::min(most_pieces, kFewPieces)));
  attend_scratch = room.allocate<float>(attend_scratch_floats);
  split_counter_count = together * kv_heads;
  split_counters = room.allocate<int32_t>(split_counter_count);
}

}  // namespace mxgpt::cuda
