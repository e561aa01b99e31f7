#include "backend/cuda/step.h"

#include <algorithm>
#include <span>
#include <vector>

#include "backend/cuda/generic/kernels.h"
#include "base/check.h"

namespace mxgpt::cuda {

Step::Step(const backend::MaxShapes& max_shapes, DeviceArena& arena)
    : max_shapes_(max_shapes),
      pinned_(Memory::Kind::pinned,
              metadata_length(max_shapes) * static_cast<int64_t>(sizeof(int32_t))),
      metadata_(arena.allocate<int32_t>(metadata_length(max_shapes))) {}

void Step::stage(const backend::Batch& batch) {
  MXGPT_CHECK(batch.rows() > 0 && batch.rows() <= max_shapes_.rows, "{} rows, planned {}",
              batch.rows(), max_shapes_.rows);
  const auto rows = static_cast<int>(batch.rows());
  const auto logit_rows = static_cast<int>(batch.logit_rows.size());
  MXGPT_CHECK(logit_rows <= rows, "{} logit rows of {}", logit_rows, rows);
  int64_t last = 0;
  for (int row = 0; row < rows; ++row) {
    const int64_t token = batch.tokens[row], position = batch.positions[row];
    MXGPT_CHECK(token >= 0 && token < max_shapes_.vocabulary, "token {} of {}", token,
                max_shapes_.vocabulary);
    MXGPT_CHECK(position >= 0 && position < max_shapes_.context, "position {} of {}", position,
                max_shapes_.context);
    last = std::max(last, position);
  }
  first_logit_row_ = logit_rows ? batch.logit_rows.front() : 0;
  logit_rows_contiguous_ =
      logit_rows == 0 || batch.logit_rows.back() - first_logit_row_ == logit_rows - 1;
  key_ = {.rows = rows, .logit_rows = logit_rows, .sequences = 1};
  for (int row = 1; row < rows; ++row)
    key_.sequences += batch.sequences[row] != batch.sequences[row - 1];
  MXGPT_CHECK(key_.sequences <= max_shapes_.sequences, "{} sequences, planned {}", key_.sequences,
              max_shapes_.sequences);
  const int64_t pages = last / backend::kPageTokens + 1;
  table_stride_ = pages;
  if (key_.is_graphable()) {  // few distinct strides, so that captured graphs can be replayed
    constexpr int64_t kMinPages = 16;
    for (table_stride_ = kMinPages; table_stride_ < pages;) table_stride_ *= 2;
    table_stride_ = std::min(table_stride_, max_shapes_.pages());
  }
  key_.max_seq_len_bucket = table_stride_ * backend::kPageTokens;

  auto* const host = reinterpret_cast<int32_t*>(pinned_.data());
  int64_t used = 0;
  const auto append = [&](std::span<const int32_t> values) {
    std::copy(values.begin(), values.end(), host + used);
    const int64_t offset = used;
    used += static_cast<int64_t>(values.size());
    return metadata_ + offset;
  };
  tokens_ = append(batch.tokens);
  positions_ = append(batch.positions);
  logit_row_ids_ = append(batch.logit_rows);
  slots_ = metadata_ + used;
  int slot = -1;
  std::vector<int32_t> sequences;
  for (int row = 0; row < rows; ++row) {
    if (row == 0 || batch.sequences[row] != batch.sequences[row - 1]) {
      ++slot;
      sequences.push_back(batch.sequences[row]);
    }
    host[used++] = slot;
  }
  for (int group = 0; group < backend::kKvGroups; ++group) {
    tables_[group] = metadata_ + used;
    if (!batch.tables[group].pages) continue;  // no layer uses this group
    for (const int32_t sequence : sequences) {
      // Entries past the sequence's last page are never read.
      append({batch.tables[group].pages + sequence * batch.tables[group].stride,
              static_cast<size_t>(pages)});
      used += table_stride_ - pages;
    }
  }
  metadata_bytes_ = used * static_cast<int64_t>(sizeof(int32_t));
}

void Step::upload() {
  stream_.copy(metadata_, pinned_.data(), metadata_bytes_);
}

void Step::embed(const backend::Embed& op) {
  enqueue("embed", format_kernels(op.table.format).embed,
          {.table = op.table.data,
           .row_bytes = op.table.row_bytes(),
           .k = static_cast<int>(op.table.k),
           .ids = tokens_,
           .count = rows(),
           .scale = op.scale,
           .out = op.x});
  if (!op.positions) return;
  MXGPT_CHECK(max_shapes_.context <= op.positions.rows, "{} positions, planned {}",
              op.positions.rows, max_shapes_.context);
  enqueue("embed", format_kernels(op.positions.format).embed,
          {.table = op.positions.data,
           .row_bytes = op.positions.row_bytes(),
           .k = static_cast<int>(op.positions.k),
           .ids = positions_,
           .count = rows(),
           .out = op.x,
           .add_to_out = true});
}

void Step::rope_cos_sin(const backend::RopeCosSin& op) {
  enqueue("rope_cos_sin", compute_rope_cos_sin,
          {.inv_freq = op.rope.inv_freq,
           .magnitude = op.rope.magnitude,
           .half = op.head_dim / 2,
           .positions = positions_,
           .rows = rows(),
           .cos = op.cos,
           .sin = op.sin});
}

}  // namespace mxgpt::cuda
