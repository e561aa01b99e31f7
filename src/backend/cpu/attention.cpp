// Splits attention across threads by query, head and position. The arithmetic is in
// attention_impl.h.
#include <algorithm>

#include "backend/cpu/backend.h"
#include "backend/cpu/kernels.h"
#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::cpu {

namespace {

/// Splits of a tile. Split n covers positions [n, n + 1) · kKvSplitTokens.
struct KvSplits {
  int64_t first, end;

  explicit KvSplits(const AttentionTile& b)
      : first((b.window ? std::max<int64_t>(0, b.position - b.window + 1) : 0) / kKvSplitTokens),
        end((b.position + b.rows - 1) / kKvSplitTokens + 1) {}
};

AttentionTile restrict_to_split(AttentionTile b, int64_t split) {
  b.kv_begin = split * kKvSplitTokens;
  b.kv_end = std::min(b.kv_begin + kKvSplitTokens, b.position + b.rows);
  return b;
}

}  // namespace

void CpuBackend::attention(const backend::Attention& op) {
  const CpuKernels& kernel = cpu_kernels();
  const backend::PageTable& table = batch_->tables[static_cast<int>(op.kv.group)];
  const int group = op.heads / op.kv_heads;
  MXGPT_CHECK(group <= kMaxQueries && op.head_dim <= kMaxHeadDim, "group {} head_dim {}", group,
              op.head_dim);

  // Blocks of rows that read the same pages; larger blocks read each page less often.
  const int64_t max_rows = kMaxQueries / group;
  query_blocks_.clear();
  for (int64_t row = 0; row < batch_->rows(); ++row) {
    const bool joins = !query_blocks_.empty() && query_blocks_.back().rows < max_rows &&
                       batch_->sequences[row] == batch_->sequences[row - 1];
    if (joins)
      ++query_blocks_.back().rows;
    else
      query_blocks_.push_back({row, 1});
  }

  // A unit of work is a block of rows with one KV head. The longest units run first.
  const auto units = std::ssize(query_blocks_) * op.kv_heads;
  const int64_t kv_head_bytes =
      backend::kPageTokens * quant::traits(op.kv.format).row_bytes(op.head_dim);
  const auto unit_block = [&](int64_t unit) -> AttentionTile {
    const QueryBlock& rows = query_blocks_[(units - 1 - unit) / op.kv_heads];
    const int64_t kv_head = unit % op.kv_heads;
    return {.q = op.q + (rows.first * op.heads + kv_head * group) * op.head_dim,
            .q_stride = int64_t{op.heads} * op.head_dim,
            .rows = static_cast<int>(rows.rows),
            .group = group,
            .head_dim = op.head_dim,
            .scale = op.scale,
            .format = op.kv.format,
            .keys = op.kv.keys + kv_head * kv_head_bytes,
            .values = op.kv.values + kv_head * kv_head_bytes,
            .page_bytes = op.kv_heads * kv_head_bytes,
            .pages = table.pages + batch_->sequences[rows.first] * table.stride,
            .position = batch_->positions[rows.first],
            .window = op.window};
  };
  const auto finish = [&](const AttentionTile& b, const AttentionStates& states) {
    const int64_t kv_head = (b.keys - op.kv.keys) / kv_head_bytes;
    kernel.normalize_states(states, b.rows * group, group, op.head_dim,
                            op.sinks ? op.sinks.f32() + kv_head * group : nullptr,
                            op.out + (b.q - op.q), b.q_stride);
  };

  int64_t max_splits = 0;
  for (int64_t unit = 0; unit < units; unit += op.kv_heads) {
    const KvSplits splits(unit_block(unit));
    max_splits = std::max(max_splits, splits.end - splits.first);
  }
  const int64_t state_floats = AttentionStates::float_count(kMaxQueries, op.head_dim);
  // States available per unit: the merged state, and those of splits to merge into it.
  const int64_t states = std::ssize(split_states_) / state_floats / units;
  if (units >= 2 * thread_count() || max_splits == 1 || states < 3) {
    parallel_for(units, [&](int64_t unit) {
      alignas(64) float memory[2][AttentionStates::float_count(kMaxQueries, kMaxHeadDim)];
      const AttentionTile block = unit_block(unit);
      const int queries = block.rows * group;
      const auto sum = AttentionStates::view(memory[0], queries, op.head_dim);
      const auto part = AttentionStates::view(memory[1], queries, op.head_dim);
      const KvSplits splits(block);
      kernel.attention_tile(restrict_to_split(block, splits.first), sum);
      for (int64_t split = splits.first + 1; split < splits.end; ++split) {
        kernel.attention_tile(restrict_to_split(block, split), part);
        kernel.merge_states(part, queries, sum);
      }
      finish(block, sum);
    });
  } else {
    // Too few units for all threads: distribute splits as well, as many at a time as states allow.
    const int64_t wave = states - 1;
    const auto state = [&](int64_t unit, int64_t index, const AttentionTile& b) {
      return AttentionStates::view(&split_states_[(unit * states + index) * state_floats],
                                   b.rows * group, op.head_dim);
    };
    for (int64_t done = 0; done < max_splits; done += wave) {
      parallel_for(units * wave, [&](int64_t i) {
        const int64_t unit = i / wave;
        const AttentionTile block = unit_block(unit);
        const KvSplits splits(block);
        const int64_t split = splits.first + done + i % wave;
        if (split < splits.end)
          kernel.attention_tile(restrict_to_split(block, split), state(unit, 1 + i % wave, block));
      });
      parallel_for(units, [&](int64_t unit) {
        const AttentionTile block = unit_block(unit);
        const AttentionStates sum = state(unit, 0, block);
        if (done == 0) std::fill(sum.sum_exp, sum.sum_exp + block.rows * group, 0.0f);
        const KvSplits splits(block);
        const int64_t count = std::min(wave, splits.end - splits.first - done);
        for (int64_t i = 0; i < count; ++i)
          kernel.merge_states(state(unit, 1 + i, block), block.rows * group, sum);
        if (done + wave >= max_splits) finish(block, sum);
      });
    }
  }
  if (hook_) hook_->attention(op, *batch_);
}

}  // namespace mxgpt::cpu
