#include "backend/cuda/backend.h"

#include <algorithm>
#include <vector>

#include "backend/cuda/kernels.h"
#include "base/check.h"

namespace mxgpt::cuda {

namespace {

/// Room for the parts of attention: enough for one sequence of the longest context, and for many
/// of middling length. Rows beyond it are not cut into parts.
constexpr int64_t kPartsBytes = 64 << 20;

/// Up to this many rows a weight is decoded once for all of them without tiles.
constexpr int kFewRows = 8;

}  // namespace

struct Backend::Host {
  Stream stream;
  Memory batch;  ///< pinned, as Backend::batch_

  explicit Host(int64_t batch_bytes) : batch(Memory::Kind::pinned, batch_bytes) {}
};

Backend::Backend(const Limits& limits, Room& room, Accumulate accumulate)
    : limits_(limits), accumulate_(accumulate) {
  const int64_t rows = limits.rows, pairs = rows * limits.top_k;
  const int64_t batch = 4 * rows + kKvGroups * limits.sequences * limits.pages();
  batch_ = room.take<int32_t>(batch);
  normed_ = room.take<float>(rows * limits.hidden);
  for (float*& wide : wide_) wide = room.take<float>(rows * limits.widest);
  gate_ = room.take<float>(limits.mlp_rows() * limits.intermediate);
  up_ = room.take<float>(limits.mlp_rows() * limits.intermediate);
  down_ = room.take<float>(limits.mlp_rows() * limits.hidden);
  router_logits_ = room.take<float>(rows * limits.experts);
  routing_ = {.expert = room.take<int32_t>(pairs),
              .weight = room.take<float>(pairs),
              .begin = room.take<int32_t>(limits.experts + 1),
              .pair_row = room.take<int32_t>(pairs),
              .pair_of_choice = room.take<int32_t>(pairs)};
  const int64_t pieces = (limits.context + kPiecePositions - 1) / kPiecePositions;
  const int64_t part_bytes = (limits.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  parts_.capacity = limits.heads * pieces *
                    std::max<int64_t>(1, kPartsBytes / (limits.heads * pieces * part_bytes));
  parts_.capacity = std::min(parts_.capacity, rows * limits.heads * pieces);
  parts_.most = room.take<float>(parts_.capacity);
  parts_.total = room.take<float>(parts_.capacity);
  parts_.out = room.take<float>(parts_.capacity * limits.head_dim);
  if (batch_) host_ = std::make_unique<Host>(batch * static_cast<int64_t>(sizeof(int32_t)));
}

Backend::~Backend() = default;

Stream& Backend::stream() {
  return host_->stream;
}

void Backend::begin(const Batch& batch) {
  MXGPT_CHECK(batch.rows() > 0 && batch.rows() <= limits_.rows, "{} rows, planned {}", batch.rows(),
              limits_.rows);
  rows_ = static_cast<int>(batch.rows());
  wanted_ = static_cast<int>(batch.logit_rows.size());
  MXGPT_CHECK(wanted_ <= rows_, "{} logit rows of {}", wanted_, rows_);
  last_position_ = 0;
  for (int row = 0; row < rows_; ++row) {
    const int64_t token = batch.tokens[row], position = batch.positions[row];
    MXGPT_CHECK(token >= 0 && token < limits_.vocabulary, "token {} of {}", token,
                limits_.vocabulary);
    MXGPT_CHECK(position >= 0 && position < limits_.context, "position {} of {}", position,
                limits_.context);
    last_position_ = std::max(last_position_, position);
  }
  stride_ = last_position_ / kPageTokens + 1;

  auto* const host = reinterpret_cast<int32_t*>(host_->batch.data());
  int64_t used = 0;
  const auto put = [&](std::span<const int32_t> values) {
    std::copy(values.begin(), values.end(), host + used);
    const int64_t at = used;
    used += static_cast<int64_t>(values.size());
    return batch_ + at;
  };
  tokens_ = put(batch.tokens);
  positions_ = put(batch.positions);
  logit_rows_ = put(batch.logit_rows);
  slots_ = batch_ + used;
  int slot = -1;
  std::vector<int32_t> sequences;
  for (int row = 0; row < rows_; ++row) {
    if (row == 0 || batch.sequences[row] != batch.sequences[row - 1]) {
      ++slot;
      sequences.push_back(batch.sequences[row]);
    }
    host[used++] = slot;
  }
  MXGPT_CHECK(slot < limits_.sequences, "{} sequences, planned {}", slot + 1, limits_.sequences);
  for (int group = 0; group < kKvGroups; ++group) {
    tables_[group] = batch_ + used;
    if (!batch.tables[group].pages) continue;  // a group that no layer uses
    for (const int32_t sequence : sequences) {
      // Of a sequence, the pages up to its last row's; what follows in the row is never read.
      put({batch.tables[group].pages + sequence * batch.tables[group].stride,
           static_cast<size_t>(stride_)});
    }
  }
  host_->stream.copy(batch_, host, used * static_cast<int64_t>(sizeof(int32_t)));
}

void Backend::embed(const Embed& op) {
  const DeviceStream stream = host_->stream.get();
  device_kernels(op.table.format)
      .lookup({.table = op.table.data,
               .row_bytes = op.table.row_bytes(),
               .k = static_cast<int>(op.table.k),
               .ids = tokens_,
               .count = rows_,
               .scale = op.scale,
               .out = op.x},
              stream);
  if (!op.positions) return;
  MXGPT_CHECK(last_position_ < op.positions.rows, "position {} of {}", last_position_,
              op.positions.rows);
  device_kernels(op.positions.format)
      .lookup({.table = op.positions.data,
               .row_bytes = op.positions.row_bytes(),
               .k = static_cast<int>(op.positions.k),
               .ids = positions_,
               .count = rows_,
               .out = op.x,
               .add = true},
              stream);
}

void Backend::rotations(const Rotations& op) {
  angles({.inverse_frequency = op.rope.inverse_frequency,
          .magnitude = op.rope.magnitude,
          .half = op.head_dim / 2,
          .positions = positions_,
          .rows = rows_,
          .cos = op.cos,
          .sin = op.sin},
         host_->stream.get());
}

void Backend::linear(const Linear& linear, DeviceTile tile) {
  const Tensor& w = linear.weight;
  tile.weights = w.data;
  tile.row_bytes = w.row_bytes();
  tile.slices = static_cast<int>(w.slices);
  tile.rows = static_cast<int>(w.rows);
  tile.k = static_cast<int>(w.k);
  tile.bias = linear.bias ? linear.bias.f32() : nullptr;
  tile.accumulate = accumulate_;
  const DeviceKernels& kernels = device_kernels(w.format);
  (tile.tokens <= kFewRows ? kernels.few : kernels.many)(tile, host_->stream.get());
}

void Backend::norm_qkv_rope_store(const NormQkvRopeStore& op) {
  const DeviceStream stream = host_->stream.get();
  norm_rows({.norm = op.norm, .x = op.x, .rows = rows_, .out = normed_}, stream);
  linear(op.q, {.x = normed_, .tokens = rows_, .out = op.q_out});
  linear(op.k, {.x = normed_, .tokens = rows_, .out = wide_[0]});
  linear(op.v, {.x = normed_, .tokens = rows_, .out = wide_[1]});
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  finish_heads({.q = op.q_out,
                .k = wide_[0],
                .v = wide_[1],
                .q_norm = op.q_norm,
                .k_norm = op.k_norm,
                .rows = rows_,
                .heads = op.heads,
                .kv_heads = op.kv_heads,
                .head_dim = op.head_dim,
                .pairs = op.pairs,
                .cos = op.cos,
                .sin = op.sin,
                .kv = op.kv,
                .positions = positions_,
                .slots = slots_,
                .table = tables_[static_cast<int>(op.kv.group)],
                .stride = stride_},
               stream);
}

void Backend::attend(const Attend& op) {
  attend_rows({.op = op,
               .rows = rows_,
               .positions = positions_,
               .slots = slots_,
               .table = tables_[static_cast<int>(op.kv.group)],
               .stride = stride_,
               .parts = parts_},
              last_position_, host_->stream.get());
}

void Backend::add_projected(const Linear& projection, const Norm& post_norm, const float* in,
                            float* x) {
  if (!post_norm) {
    linear(projection, {.x = in, .tokens = rows_, .out = x, .add = true});
    return;
  }
  linear(projection, {.x = in, .tokens = rows_, .out = wide_[0]});
  norm_rows({.norm = post_norm, .x = wide_[0], .rows = rows_, .out = x, .add = true},
            host_->stream.get());
}

void Backend::project_residual(const ProjectResidual& op) {
  add_projected(op.linear, op.post_norm, op.in, op.x);
}

void Backend::norm_mlp_residual(const NormMlpResidual& op) {
  const DeviceStream stream = host_->stream.get();
  norm_rows({.norm = op.norm, .x = op.x, .rows = rows_, .out = normed_}, stream);
  // Without a gate, what is activated is `up` itself.
  float* up = op.gate.weight ? up_ : nullptr;
  linear(up ? op.gate : op.up, {.x = normed_, .tokens = rows_, .out = gate_});
  if (up) linear(op.up, {.x = normed_, .tokens = rows_, .out = up});
  activate(op.activation, gate_, up, rows_ * op.up.weight.rows, stream);
  add_projected(op.down, op.post_norm, gate_, op.x);
}

void Backend::norm_route_experts_residual(const NormRouteExpertsResidual& op) {
  const DeviceStream stream = host_->stream.get();
  const auto experts = static_cast<int>(op.router.weight.rows);
  const int64_t pairs = int64_t{rows_} * op.top_k;
  norm_rows({.norm = op.norm, .x = op.x, .rows = rows_, .out = normed_}, stream);
  linear(op.router, {.x = normed_, .tokens = rows_, .out = router_logits_});
  route(router_logits_, rows_, experts, op.top_k, routing_, stream);
  // A row chooses an expert once, so no expert has more tokens than there are rows.
  const auto of_experts = [&](const float* x, const int32_t* x_rows, float* out) {
    return DeviceTile{
        .x = x, .x_rows = x_rows, .begin = routing_.begin, .tokens = rows_, .out = out};
  };
  linear(op.gate, of_experts(normed_, routing_.pair_row, gate_));
  linear(op.up, of_experts(normed_, routing_.pair_row, up_));
  activate(op.activation, gate_, up_, pairs * op.gate.weight.rows, stream);
  linear(op.down, of_experts(gate_, nullptr, down_));
  combine_experts(routing_, rows_, op.top_k, down_, static_cast<int>(op.norm.weight.k), op.x,
                  stream);
}

void Backend::norm_logits(const NormLogits& op) {
  if (wanted_ == 0) return;
  norm_rows({.norm = op.norm, .x = op.x, .ids = logit_rows_, .rows = wanted_, .out = normed_},
            host_->stream.get());
  linear(op.head, {.x = normed_, .tokens = wanted_, .out = op.logits});
}

}  // namespace mxgpt::cuda
