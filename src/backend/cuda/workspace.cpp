#include "backend/cuda/workspace.h"

#include <algorithm>

#include "backend/cuda/fast/decode.h"
#include "backend/cuda/kernels.h"

namespace mxgpt::cuda {

namespace {

/// Room for the parts of attention: enough for one sequence of the longest context, and for many
/// of middling length. Rows beyond it are not cut into parts.
constexpr int64_t kPartsBytes = 64 << 20;

}  // namespace

Workspace::Workspace(const Limits& limits, Room& room, const Target& target, bool fast) {
  const int64_t rows = limits.rows, pairs = rows * limits.top_k;
  batch_length = 4 * rows + kKvGroups * limits.sequences * limits.pages();
  batch = room.take<int32_t>(batch_length);
  normed = room.take<float>(rows * limits.hidden);
  for (float*& buffer : wide) buffer = room.take<float>(rows * limits.widest);
  gate = room.take<float>(limits.mlp_rows() * limits.intermediate);
  up = room.take<float>(limits.mlp_rows() * limits.intermediate);
  down = room.take<float>(limits.mlp_rows() * limits.hidden);
  router_logits = room.take<float>(rows * limits.experts);
  routing = {.expert = room.take<int32_t>(pairs),
             .weight = room.take<float>(pairs),
             .begin = room.take<int32_t>(limits.experts + 1),
             .pair_row = room.take<int32_t>(pairs),
             .pair_of_choice = room.take<int32_t>(pairs)};
  const int64_t pieces = (limits.context + kPiecePositions - 1) / kPiecePositions;
  const int64_t part_bytes = (limits.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  parts.capacity = limits.heads * pieces *
                   std::max<int64_t>(1, kPartsBytes / (limits.heads * pieces * part_bytes));
  parts.capacity = std::min(parts.capacity, rows * limits.heads * pieces);
  parts.most = room.take<float>(parts.capacity);
  parts.total = room.take<float>(parts.capacity);
  parts.out = room.take<float>(parts.capacity * limits.head_dim);
  if (!fast) return;
  const auto experts = static_cast<int>(limits.experts);
  const auto kv_heads = static_cast<int>((limits.heads + fast::kGroup - 1) / fast::kGroup);
  // A piece is a function of the longest context alone, and there are at most 128.
  while (limits.pages() > int64_t{128} * piece_pages) piece_pages *= 2;
  const int64_t most_pieces = limits.pages() / piece_pages + 1;
  constexpr int64_t kMostPadding = 320;  // of a row, by fast::gemm_columns
  narrow =
      room.take<uint16_t>(std::max(rows * (std::max(limits.widest, limits.hidden) + kMostPadding),
                                   limits.mlp_rows() * (limits.intermediate + kMostPadding)));
  router_parts = room.take<float>(static_cast<int64_t>(
      fast::router_part_floats(fast::kMaxRows, experts, target.multiprocessors)));
  const auto hidden = static_cast<int>(limits.hidden);
  activated_bytes =
      fast::kMaxRows *
      static_cast<int64_t>(fast::activated_bytes(static_cast<int>(limits.intermediate)));
  expert_rows = {.chosen = room.take<fast::Chosen>(fast::kMaxRows),
                 .normed = room.take<uint8_t>(
                     static_cast<int64_t>(fast::normed_bytes(fast::kMaxRows, hidden))),
                 .activated = room.take<uint8_t>(activated_bytes),
                 .outs = room.take<float>(fast::kMaxRows * fast::kMaxTopK * limits.hidden)};
  // A few rows of the longest context, or many sequences of shorter ones at once.
  constexpr int64_t kFewPieces = 8, kMostTogether = 256;
  const auto scratch_of = [&](int64_t count) {
    return static_cast<int64_t>(fast::attend_scratch_floats(1, kv_heads, static_cast<int>(count)));
  };
  const int64_t together = std::clamp<int64_t>(limits.sequences, fast::kMaxRows, kMostTogether);
  attend_scratch_floats = std::max(fast::kMaxRows * scratch_of(most_pieces),
                                   together * scratch_of(std::min(most_pieces, kFewPieces)));
  attend_scratch = room.take<float>(attend_scratch_floats);
  arrived_count = together * kv_heads;
  arrived = room.take<int32_t>(arrived_count);
}

}  // namespace mxgpt::cuda
