#include "backend/cuda/backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/layouts.h"
#include "base/check.h"

namespace mxgpt::cuda {

namespace {

/// Room for the parts of attention: enough for one sequence of the longest context, and for many
/// of middling length. Rows beyond it are not cut into parts.
constexpr int64_t kPartsBytes = 64 << 20;

/// Up to this many rows a weight is decoded once for all of them without tiles.
constexpr int kFewRows = 8;

/// Query heads of a key head in fast::attend.
constexpr int kGroup = 8;

fast::Packed packed(const Tensor& t) {
  return {reinterpret_cast<const uint8_t*>(t.data), tile_kind(t.format), static_cast<int>(t.rows),
          static_cast<int>(t.k)};
}

const float* bias_of(const Linear& linear) {
  return linear.bias ? linear.bias.f32() : nullptr;
}

bool is_plain_rms(const Norm& norm) {
  return norm && norm.kind == NormKind::rms && !norm.bias;
}

}  // namespace

struct Backend::Host {
  Stream stream;
  Memory batch;  ///< pinned, as Backend::batch_

  explicit Host(int64_t batch_bytes) : batch(Memory::Kind::pinned, batch_bytes) {}
};

Backend::Backend(const Limits& limits, Room& room, Accumulate accumulate, bool fast)
    : limits_(limits),
      accumulate_(accumulate),
      fast_(fast && limits.experts > 0 && accumulate == Accumulate::f32) {
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
  if (fast_) {
    const auto experts = static_cast<int>(limits.experts);
    const auto kv_heads = static_cast<int>((limits.heads + kGroup - 1) / kGroup);
    // A piece is a function of the longest context alone, and there are at most 128.
    while (limits.pages() > int64_t{128} * piece_pages_) piece_pages_ *= 2;
    const int64_t most_pieces = limits.pages() / piece_pages_ + 1;
    constexpr int64_t kMostPadding = 320;  // of a row, by fast::gemm_columns
    narrow_ =
        room.take<uint16_t>(std::max(rows * (std::max(limits.widest, limits.hidden) + kMostPadding),
                                     limits.mlp_rows() * (limits.intermediate + kMostPadding)));
    const int64_t parts = static_cast<int64_t>(fast::router_part_floats(1, experts));
    router_parts_ = room.take<float>(parts);
    const int64_t activated =
        static_cast<int64_t>(fast::activated_bytes(static_cast<int>(limits.intermediate)));
    activated_ = room.take<uint8_t>(activated);
    attend_scratch_ = room.take<float>(static_cast<int64_t>(
        fast::attend_scratch_floats(1, kv_heads, static_cast<int>(most_pieces))));
    arrived_ = room.take<int32_t>(limits.heads);
    if (batch_) {
      Stream stream;
      stream.zero(activated_, activated);
      stream.zero(arrived_, limits.heads * static_cast<int64_t>(sizeof(int32_t)));
      stream.wait();
    }
  }
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
  sequences_ = slot + 1;
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

bool Backend::is_fast(std::initializer_list<const Tensor*> weights) const {
  return fast_ && rows_ == 1 && std::all_of(weights.begin(), weights.end(), [](const Tensor* t) {
           return t->layout != kAsInFile;
         });
}

void Backend::flush() {
  rounded_ = nullptr;  // an op is about to begin, and to write what another one rounded
  if (!pending_) return;
  const ProjectResidual op = *std::exchange(pending_, std::nullopt);
  fast::project({.in = op.in,
                 .weight = packed(op.linear.weight),
                 .bias = bias_of(op.linear),
                 .x = op.x,
                 .rows = 1,
                 .router = {},
                 .router_parts = router_parts_},
                host_->stream.get());
}

fast::KvPages Backend::pages(const KvLayer& kv) const {
  return {.keys = kv.keys,
          .values = kv.values,
          .bf16 = kv.format == Format::bf16,
          .table = tables_[static_cast<int>(kv.group)],
          .stride = stride_};
}

void Backend::embed(const Embed& op) {
  flush();
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

void Backend::linear(const Linear& linear, DeviceTile tile, const Grouped& grouped) {
  const Tensor& w = linear.weight;
  if (fast_ && w.layout != kAsInFile) {
    const auto k = static_cast<int>(w.k);
    const int columns = fast::gemm_columns(tile_kind(w.format), k);
    const int64_t rows = grouped.x_rows ? grouped.x_rows : tile.tokens;
    if (rounded_ != tile.x || rounded_columns_ != columns) {
      fast::round_to_bf16({.in = tile.x, .rows = rows, .k = k, .columns = columns, .out = narrow_},
                          host_->stream.get());
      rounded_ = tile.x;
      rounded_columns_ = columns;
    }
    fast::gemm({.x = narrow_,
                .weight = packed(w),
                .order = w.layout == kTilesRopeHalves ? fast::RowOrder::rope_halves_64
                                                      : fast::RowOrder::natural,
                .bias = bias_of(linear),
                .slices = static_cast<int>(w.slices),
                .tokens = grouped.tokens ? grouped.tokens : tile.tokens,
                .begin = tile.begin,
                .x_rows = tile.x_rows,
                .out = tile.out,
                .add = tile.add},
               host_->stream.get());
    return;
  }
  tile.weights = w.data;
  tile.row_bytes = w.row_bytes();
  tile.slices = static_cast<int>(w.slices);
  tile.rows = static_cast<int>(w.rows);
  tile.k = static_cast<int>(w.k);
  tile.bias = linear.bias ? linear.bias.f32() : nullptr;
  tile.accumulate = accumulate_;
  const DeviceKernels& kernels = w.layout ? tile_kernels(w) : device_kernels(w.format);
  (tile.tokens <= kFewRows ? kernels.few : kernels.many)(tile, host_->stream.get());
}

void Backend::norm_qkv_rope_store(const NormQkvRopeStore& op) {
  flush();
  const DeviceStream stream = host_->stream.get();
  const bool narrow = op.kv.format == Format::f16 || op.kv.format == Format::bf16;
  if (is_fast({&op.q.weight, &op.k.weight, &op.v.weight}) && narrow && is_plain_rms(op.norm) &&
      !op.q_norm && !op.k_norm && op.cos && op.q.weight.format == op.k.weight.format &&
      op.q.weight.format == op.v.weight.format) {
    fast::qkv({.x = op.x,
               .norm = {op.norm.weight.f32(), op.norm.eps},
               .q = packed(op.q.weight),
               .k = packed(op.k.weight),
               .v = packed(op.v.weight),
               .q_bias = bias_of(op.q),
               .k_bias = bias_of(op.k),
               .v_bias = bias_of(op.v),
               .cos = op.cos,
               .sin = op.sin,
               .rows = 1,
               .kv_heads = op.kv_heads,
               .places = {positions_, slots_},
               .kv = pages(op.kv),
               .q_out = op.q_out},
              stream);
    return;
  }
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
  flush();
  const bool narrow = op.kv.format == Format::f16 || op.kv.format == Format::bf16;
  if (fast_ && narrow && op.head_dim == 64 && op.heads == kGroup * op.kv_heads) {
    fast::Attend attend{.q = op.q,
                        .rows = rows_,
                        .kv_heads = op.kv_heads,
                        .scale = op.scale,
                        .kv = pages(op.kv),
                        .places = {positions_, slots_},
                        .window = static_cast<int>(op.window),
                        .sinks = op.sinks ? op.sinks.f32() : nullptr,
                        .piece_pages = piece_pages_,
                        .max_pieces = static_cast<int>(stride_) / piece_pages_ + 1,
                        .scratch = attend_scratch_,
                        .arrived = arrived_,
                        .out = op.out};
    if (rows_ == 1) return fast::attend(attend, host_->stream.get());
    // Blocks of queries, which pay where rows are mostly of one sequence.
    if (rows_ >= kFewRows * sequences_) return fast::attend_rows(attend, host_->stream.get());
  }
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
  flush();
  if (is_fast({&op.linear.weight}) && !op.post_norm) {
    pending_ = op;
    return;
  }
  add_projected(op.linear, op.post_norm, op.in, op.x);
}

void Backend::norm_mlp_residual(const NormMlpResidual& op) {
  flush();
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
  if (pending_ && is_fast({&op.gate.weight, &op.up.weight, &op.down.weight}) &&
      op.router.weight.format == Format::f32 && op.router.bias && op.gate.bias && op.up.bias &&
      op.down.bias && is_plain_rms(op.norm) && pending_->x == op.x) {
    const ProjectResidual project = *std::exchange(pending_, std::nullopt);
    const fast::Router router{.weight = op.router.weight.f32(),
                              .bias = op.router.bias.f32(),
                              .norm = op.norm.weight.f32(),
                              .eps = op.norm.eps,
                              .experts = experts,
                              .top_k = op.top_k,
                              .parts = fast::router_parts()};
    fast::project({.in = project.in,
                   .weight = packed(project.linear.weight),
                   .bias = bias_of(project.linear),
                   .x = op.x,
                   .rows = 1,
                   .router = router,
                   .router_parts = router_parts_},
                  stream);
    fast::gate_up({.x = op.x,
                   .router = router,
                   .router_parts = router_parts_,
                   .gate = packed(op.gate.weight),
                   .up = packed(op.up.weight),
                   .gate_bias = op.gate.bias.f32(),
                   .up_bias = op.up.bias.f32(),
                   .swiglu = {op.activation.alpha, op.activation.limit},
                   .activated = activated_},
                  stream);
    fast::down({.activated = activated_,
                .router = router,
                .router_parts = router_parts_,
                .down = packed(op.down.weight),
                .bias = op.down.bias.f32(),
                .x = op.x},
               stream);
    return;
  }
  flush();
  const int64_t pairs = int64_t{rows_} * op.top_k;
  norm_rows({.norm = op.norm, .x = op.x, .rows = rows_, .out = normed_}, stream);
  linear(op.router, {.x = normed_, .tokens = rows_, .out = router_logits_});
  route(router_logits_, rows_, experts, op.top_k, routing_, stream);
  // A row chooses an expert once, so no expert has more tokens than there are rows.
  const auto of_experts = [&](const float* x, const int32_t* x_rows, float* out) {
    return DeviceTile{
        .x = x, .x_rows = x_rows, .begin = routing_.begin, .tokens = rows_, .out = out};
  };
  const Grouped from_rows{rows_, static_cast<int>(pairs)};
  const Grouped from_pairs{pairs, static_cast<int>(pairs)};
  linear(op.gate, of_experts(normed_, routing_.pair_row, gate_), from_rows);
  linear(op.up, of_experts(normed_, routing_.pair_row, up_), from_rows);
  activate(op.activation, gate_, up_, pairs * op.gate.weight.rows, stream);
  linear(op.down, of_experts(gate_, nullptr, down_), from_pairs);
  combine_experts(routing_, rows_, op.top_k, down_, static_cast<int>(op.norm.weight.k), op.x,
                  stream);
}

void Backend::norm_logits(const NormLogits& op) {
  flush();
  if (wanted_ == 0) return;
  if (is_fast({&op.head.weight}) && is_plain_rms(op.norm) && !op.head.bias) {
    fast::logits({.x = op.x,
                  .norm = {op.norm.weight.f32(), op.norm.eps},
                  .head = packed(op.head.weight),
                  .rows = 1,
                  .logits = op.logits},
                 host_->stream.get());
    return;
  }
  norm_rows({.norm = op.norm, .x = op.x, .ids = logit_rows_, .rows = wanted_, .out = normed_},
            host_->stream.get());
  linear(op.head, {.x = normed_, .tokens = wanted_, .out = op.logits});
}

}  // namespace mxgpt::cuda
