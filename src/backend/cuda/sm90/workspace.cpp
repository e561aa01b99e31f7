#include "backend/cuda/sm90/workspace.h"

#include <algorithm>

#include "backend/cuda/sm90/gemm.h"

namespace mxgpt::cuda::sm90 {

Workspace::Workspace(const backend::MaxShapes& m, DeviceArena& arena)
    : attention(m, arena), routing(m, arena) {
  const int64_t pairs = m.rows * m.top_k;
  moe_activated = reinterpret_cast<uint16_t*>(arena.allocate<float>(pairs * m.intermediate));
  down = arena.allocate<float>(pairs * m.hidden);
  constexpr int64_t kMaxPadding = 320;  // columns that gemm_columns adds to a row
  bf16_activations = arena.allocate<uint16_t>(
      std::max(m.rows * (std::max(m.max_linear_width, m.hidden) + kMaxPadding),
               pairs * (m.intermediate + kMaxPadding)));
  const auto hidden = static_cast<int>(m.hidden);
  activated_bytes =
      kMaxRows * static_cast<int64_t>(sm90::activated_bytes(static_cast<int>(m.intermediate)));
  moe_scratch = {
      .chosen = arena.allocate<TopKResult>(kMaxRows),
      .normed = arena.allocate<uint8_t>(static_cast<int64_t>(normed_bytes(kMaxRows, hidden))),
      .activated = arena.allocate<uint8_t>(activated_bytes),
      .outs = arena.allocate<float>(kMaxRows * kMaxTopK * m.hidden)};

  // The split length depends on the longest context alone; a row has at most 128 splits.
  while (m.pages() > int64_t{128} * pages_per_split) pages_per_split *= 2;
  const auto kv_heads = static_cast<int>((m.heads + kGqaGroup - 1) / kGqaGroup);
  const auto row_floats = [&](int64_t splits) {
    return static_cast<int64_t>(attend_scratch_floats(1, kv_heads, static_cast<int>(splits)));
  };
  // Either a few rows of the longest context, or many sequences of shorter ones at once.
  constexpr int64_t kFewSplits = 8, kMaxRowsAtOnce = 256;
  const int64_t max_splits = m.pages() / pages_per_split + 1;
  const int64_t rows_at_once = std::clamp<int64_t>(m.sequences, kMaxRows, kMaxRowsAtOnce);
  attn_scratch_floats = std::max(kMaxRows * row_floats(max_splits),
                                 rows_at_once * row_floats(std::min(max_splits, kFewSplits)));
  attn_scratch = arena.allocate<float>(attn_scratch_floats);
  split_counter_count = rows_at_once * kv_heads;
  split_counters = arena.allocate<int32_t>(split_counter_count);
}

}  // namespace mxgpt::cuda::sm90
