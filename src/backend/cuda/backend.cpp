#include "backend/cuda/backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/layouts.h"
#include "base/check.h"

namespace mxgpt::cuda {

namespace {

/// Up to this many rows a weight is decoded once for all of them without tiles.
constexpr int kFewRows = 8;

fast::Packed packed(const Tensor& t) {
  return {reinterpret_cast<const uint8_t*>(t.data), tile_kind(t.format), static_cast<int>(t.rows),
          static_cast<int>(t.k)};
}

fast::RowOrder order_of(const Tensor& t) {
  return t.layout == kTilesRopeHalves ? fast::RowOrder::rope_halves_64 : fast::RowOrder::natural;
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
  std::optional<Memory> batch;  ///< pinned, as Workspace::batch
};

Backend::Backend(const Limits& limits, Room& room, Accumulate accumulate, bool fast)
    : limits_(limits),
      accumulate_(accumulate),
      host_(std::make_unique<Host>()),
      own_(limits, room, target(), fast),
      fast_(fast) {
  host_->batch.emplace(Memory::Kind::pinned,
                       own_.batch_length * static_cast<int64_t>(sizeof(int32_t)));
  if (fast_) {
    host_->stream.zero(own_.expert_rows.activated, own_.activated_bytes);
    host_->stream.zero(own_.arrived, own_.arrived_count * static_cast<int64_t>(sizeof(int32_t)));
    host_->stream.wait();
  }
}

Backend::~Backend() = default;

template <class Params>
void Backend::enqueue(const char* name, void (*launch)(const Params&, DeviceStream),
                      const std::type_identity_t<Params>& params) {
  const Timed timed(name, host_->stream.get());
  launch(params, host_->stream.get());
}

template <class Launch>
void Backend::enqueue(const char* name, const Launch& launch) {
  const Timed timed(name, host_->stream.get());
  launch(host_->stream.get());
}

Stream& Backend::stream() {
  return host_->stream;
}

const Shape& Backend::place(const Batch& batch) {
  pending_.reset();  // of a step that failed
  rounded_ = {};
  MXGPT_CHECK(batch.rows() > 0 && batch.rows() <= limits_.rows, "{} rows, planned {}", batch.rows(),
              limits_.rows);
  rows_ = static_cast<int>(batch.rows());
  wanted_ = static_cast<int>(batch.logit_rows.size());
  MXGPT_CHECK(wanted_ <= rows_, "{} logit rows of {}", wanted_, rows_);
  int64_t last = 0;
  for (int row = 0; row < rows_; ++row) {
    const int64_t token = batch.tokens[row], position = batch.positions[row];
    MXGPT_CHECK(token >= 0 && token < limits_.vocabulary, "token {} of {}", token,
                limits_.vocabulary);
    MXGPT_CHECK(position >= 0 && position < limits_.context, "position {} of {}", position,
                limits_.context);
    last = std::max(last, position);
  }
  first_wanted_ = wanted_ ? batch.logit_rows.front() : 0;
  wants_run_ = wanted_ == 0 || batch.logit_rows.back() - first_wanted_ == wanted_ - 1;
  shape_ = {.rows = rows_, .logit_rows = wanted_, .sequences = 1};
  for (int row = 1; row < rows_; ++row)
    shape_.sequences += batch.sequences[row] != batch.sequences[row - 1];
  MXGPT_CHECK(shape_.sequences <= limits_.sequences, "{} sequences, planned {}", shape_.sequences,
              limits_.sequences);
  const int64_t pages = last / kPageTokens + 1;
  stride_ = pages;
  if (shape_.recurs()) {  // in few shapes, so that what was recorded fits again
    constexpr int64_t kLeastPages = 16;
    for (stride_ = kLeastPages; stride_ < pages;) stride_ *= 2;
    stride_ = std::min(stride_, limits_.pages());
  }
  shape_.reach = stride_ * kPageTokens;

  auto* const host = reinterpret_cast<int32_t*>(host_->batch->data());
  int64_t used = 0;
  const auto put = [&](std::span<const int32_t> values) {
    std::copy(values.begin(), values.end(), host + used);
    const int64_t at = used;
    used += static_cast<int64_t>(values.size());
    return own_.batch + at;
  };
  tokens_ = put(batch.tokens);
  positions_ = put(batch.positions);
  logit_rows_ = put(batch.logit_rows);
  slots_ = own_.batch + used;
  int slot = -1;
  std::vector<int32_t> sequences;
  for (int row = 0; row < rows_; ++row) {
    if (row == 0 || batch.sequences[row] != batch.sequences[row - 1]) {
      ++slot;
      sequences.push_back(batch.sequences[row]);
    }
    host[used++] = slot;
  }
  for (int group = 0; group < kKvGroups; ++group) {
    tables_[group] = own_.batch + used;
    if (!batch.tables[group].pages) continue;  // a group that no layer uses
    for (const int32_t sequence : sequences) {
      // Of a sequence, the pages up to its last row's; what follows in the row is never read.
      put({batch.tables[group].pages + sequence * batch.tables[group].stride,
           static_cast<size_t>(pages)});
      used += stride_ - pages;
    }
  }
  batch_bytes_ = used * static_cast<int64_t>(sizeof(int32_t));
  return shape_;
}

void Backend::begin(const Batch& batch) {
  place(batch);
  host_->stream.copy(own_.batch, host_->batch->data(), batch_bytes_);
}

bool Backend::is_fast(int64_t rows, std::initializer_list<const Tensor*> weights) const {
  return fast_ && rows <= fast::kMaxRows &&
         std::all_of(weights.begin(), weights.end(),
                     [](const Tensor* t) { return t->layout != kAsInFile; });
}

void Backend::flush() {
  rounded_ = {};  // an op is about to begin, and to write what another one rounded
  if (!pending_) return;
  const ProjectResidual op = *std::exchange(pending_, std::nullopt);
  enqueue("project", fast::project,
          {.in = op.in,
           .weight = packed(op.linear.weight),
           .bias = bias_of(op.linear),
           .x = op.x,
           .rows = rows_,
           .router = {},
           .router_parts = own_.router_parts});
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
  enqueue("embed", device_kernels(op.table.format).lookup,
          {.table = op.table.data,
           .row_bytes = op.table.row_bytes(),
           .k = static_cast<int>(op.table.k),
           .ids = tokens_,
           .count = rows_,
           .scale = op.scale,
           .out = op.x});
  if (!op.positions) return;
  MXGPT_CHECK(limits_.context <= op.positions.rows, "{} positions, planned {}", op.positions.rows,
              limits_.context);
  enqueue("embed", device_kernels(op.positions.format).lookup,
          {.table = op.positions.data,
           .row_bytes = op.positions.row_bytes(),
           .k = static_cast<int>(op.positions.k),
           .ids = positions_,
           .count = rows_,
           .out = op.x,
           .add = true});
}

void Backend::rotations(const Rotations& op) {
  enqueue("rotations", angles,
          {.inverse_frequency = op.rope.inverse_frequency,
           .magnitude = op.rope.magnitude,
           .half = op.head_dim / 2,
           .positions = positions_,
           .rows = rows_,
           .cos = op.cos,
           .sin = op.sin});
}

const uint16_t* Backend::rounded(const float* x, int64_t rows, const Tensor& weight,
                                 bool shuffled) {
  const auto k = static_cast<int>(weight.k);
  const Rounded wanted{x, fast::gemm_columns(tile_kind(weight.format), k), shuffled};
  if (rounded_ != wanted) {
    enqueue("round", fast::round_to_bf16,
            {.in = x,
             .rows = rows,
             .k = k,
             .columns = wanted.columns,
             .out = own_.narrow,
             .shuffled = shuffled});
    rounded_ = wanted;
  }
  return own_.narrow;
}

bool Backend::can_norm_round(const Norm& norm) const {
  return fast_ && is_plain_rms(norm) && norm.weight.k % 4 == 0 &&
         norm.weight.k <= fast::kMostNormed;
}

const uint16_t* Backend::norm_round(const NormRows& p, const Tensor& weight, bool shuffled,
                                    const fast::Scores& router) {
  const auto k = static_cast<int>(weight.k);
  rounded_ = {};
  enqueue("norm", fast::norm_round,
          {.x = p.x,
           .ids = p.ids,
           .norm = {p.norm.weight.f32(), p.norm.eps},
           .rows = p.rows,
           .k = k,
           .columns = fast::gemm_columns(tile_kind(weight.format), k),
           .out = own_.narrow,
           .shuffled = shuffled,
           .router = router});
  return own_.narrow;
}

void Backend::linear(const Linear& linear, DeviceTile tile, const Grouped& grouped) {
  const Tensor& w = linear.weight;
  if (fast_ && w.layout != kAsInFile) {
    const int64_t rows = grouped.x_rows ? grouped.x_rows : tile.tokens;
    const int tokens = grouped.tokens ? grouped.tokens : tile.tokens;
    const bool shuffled = fast::is_wide(tokens, static_cast<int>(w.slices));
    const uint16_t* const x = rounded(tile.x, rows, w, shuffled);
    enqueue("gemm", fast::gemm,
            {.x = x,
             .weight = packed(w),
             .order = order_of(w),
             .bias = bias_of(linear),
             .slices = static_cast<int>(w.slices),
             .tokens = tokens,
             .begin = tile.begin,
             .x_rows = tile.x_rows,
             .out = tile.out,
             .add = tile.add,
             .shuffled = shuffled});
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
  enqueue(tile.begin ? "linear_experts" : "linear",
          tile.tokens <= kFewRows ? kernels.few : kernels.many, tile);
}

void Backend::norm_qkv_rope_store(const NormQkvRopeStore& op) {
  flush();
  const bool narrow = op.kv.format == Format::f16 || op.kv.format == Format::bf16;
  if (is_fast(rows_, {&op.q.weight, &op.k.weight, &op.v.weight}) && narrow &&
      is_plain_rms(op.norm) && !op.q_norm && !op.k_norm && op.cos &&
      op.q.weight.format == op.k.weight.format && op.q.weight.format == op.v.weight.format) {
    enqueue("qkv", fast::qkv,
            {.x = op.x,
             .norm = {op.norm.weight.f32(), op.norm.eps},
             .q = packed(op.q.weight),
             .k = packed(op.k.weight),
             .v = packed(op.v.weight),
             .q_bias = bias_of(op.q),
             .k_bias = bias_of(op.k),
             .v_bias = bias_of(op.v),
             .cos = op.cos,
             .sin = op.sin,
             .rows = rows_,
             .kv_heads = op.kv_heads,
             .places = {positions_, slots_},
             .kv = pages(op.kv),
             .q_out = op.q_out});
    return;
  }
  const NormRows before{.norm = op.norm, .x = op.x, .rows = rows_, .out = own_.normed};
  if (const Tensor* const all[] = {&op.q.weight, &op.k.weight, &op.v.weight};
      is_fast(1, {all[0], all[1], all[2]}) && all[0]->format == all[1]->format &&
      all[0]->format == all[2]->format && can_norm_round(op.norm)) {
    const auto part = [](const Linear& linear, float* out) {
      return fast::GemmPart{packed(linear.weight), order_of(linear.weight), bias_of(linear), out};
    };
    const bool shuffled = fast::is_wide(rows_, 1);
    const uint16_t* const x = norm_round(before, op.q.weight, shuffled);
    enqueue("gemm_qkv", fast::gemm,
            {.x = x,
             .weight = packed(op.q.weight),
             .order = order_of(op.q.weight),
             .bias = bias_of(op.q),
             .tokens = rows_,
             .out = op.q_out,
             .also = {part(op.k, own_.wide[0]), part(op.v, own_.wide[1])},
             .shuffled = shuffled});
  } else {
    enqueue("norm", norm_rows, before);
    linear(op.q, {.x = own_.normed, .tokens = rows_, .out = op.q_out});
    linear(op.k, {.x = own_.normed, .tokens = rows_, .out = own_.wide[0]});
    linear(op.v, {.x = own_.normed, .tokens = rows_, .out = own_.wide[1]});
  }
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  enqueue("finish_heads", finish_heads,
          {.q = op.q_out,
           .k = own_.wide[0],
           .v = own_.wide[1],
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
           .stride = stride_});
}

void Backend::attend(const Attend& op) {
  flush();
  const bool narrow = op.kv.format == Format::f16 || op.kv.format == Format::bf16;
  if (fast_ && narrow && op.head_dim == 64 && op.heads == fast::kGroup * op.kv_heads) {
    fast::Attend attend{.q = op.q,
                        .rows = rows_,
                        .step_rows = rows_,
                        .kv_heads = op.kv_heads,
                        .scale = op.scale,
                        .kv = pages(op.kv),
                        .places = {positions_, slots_},
                        .window = static_cast<int>(op.window),
                        .sinks = op.sinks ? op.sinks.f32() : nullptr,
                        .piece_pages = own_.piece_pages,
                        .max_pieces = static_cast<int>(stride_) / own_.piece_pages + 1,
                        .scratch = own_.attend_scratch,
                        .arrived = own_.arrived,
                        .out = op.out};
    // Blocks of queries, which pay where rows are mostly of one sequence.
    if (rows_ > fast::kMaxRows && rows_ >= kFewRows * shape_.sequences)
      return enqueue("attend_rows", fast::attend_rows, attend);
    // As many rows at a time as there is scratch for.
    const auto each =
        static_cast<int64_t>(fast::attend_scratch_floats(1, op.kv_heads, attend.max_pieces));
    const auto together = static_cast<int>(
        std::min(own_.attend_scratch_floats / each, own_.arrived_count / op.kv_heads));
    const int64_t width = int64_t{op.heads} * op.head_dim;
    for (int row = 0; row < rows_; row += together) {
      attend.rows = std::min(together, rows_ - row);
      attend.q = op.q + row * width;
      attend.out = op.out + row * width;
      attend.places = {positions_ + row, slots_ + row};
      enqueue("attend", fast::attend, attend);
    }
    return;
  }
  enqueue("attend_generic", [&](DeviceStream stream) {
    attend_rows({.op = op,
                 .rows = rows_,
                 .positions = positions_,
                 .slots = slots_,
                 .table = tables_[static_cast<int>(op.kv.group)],
                 .stride = stride_,
                 .parts = own_.parts},
                shape_.reach - 1, stream);
  });
}

void Backend::add_projected(const Linear& projection, const Norm& post_norm, const float* in,
                            float* x) {
  if (!post_norm) {
    linear(projection, {.x = in, .tokens = rows_, .out = x, .add = true});
    return;
  }
  linear(projection, {.x = in, .tokens = rows_, .out = own_.wide[0]});
  enqueue("norm", norm_rows,
          {.norm = post_norm, .x = own_.wide[0], .rows = rows_, .out = x, .add = true});
}

void Backend::project_residual(const ProjectResidual& op) {
  flush();
  if (is_fast(rows_, {&op.linear.weight}) && !op.post_norm) {
    pending_ = op;
    return;
  }
  add_projected(op.linear, op.post_norm, op.in, op.x);
}

void Backend::norm_mlp_residual(const NormMlpResidual& op) {
  flush();
  enqueue("norm", norm_rows, {.norm = op.norm, .x = op.x, .rows = rows_, .out = own_.normed});
  // Without a gate, what is activated is `up` itself.
  float* up = op.gate.weight ? own_.up : nullptr;
  linear(up ? op.gate : op.up, {.x = own_.normed, .tokens = rows_, .out = own_.gate});
  if (up) linear(op.up, {.x = own_.normed, .tokens = rows_, .out = up});
  enqueue("activate", [&](DeviceStream stream) {
    activate(op.activation, own_.gate, up, rows_ * op.up.weight.rows, stream);
  });
  add_projected(op.down, op.post_norm, own_.gate, op.x);
}

void Backend::norm_route_experts_residual(const NormRouteExpertsResidual& op) {
  const auto experts = static_cast<int>(op.router.weight.rows);
  if (pending_ && is_fast(rows_, {&op.gate.weight, &op.up.weight, &op.down.weight}) &&
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
    enqueue("project", fast::project,
            {.in = project.in,
             .weight = packed(project.linear.weight),
             .bias = bias_of(project.linear),
             .x = op.x,
             .rows = rows_,
             .router = router,
             .router_parts = own_.router_parts});
    fast::ExpertRows rows{.x = op.x,
                          .rows = rows_,
                          .router = router,
                          .router_parts = own_.router_parts,
                          .gate = packed(op.gate.weight),
                          .up = packed(op.up.weight),
                          .down = packed(op.down.weight),
                          .gate_bias = op.gate.bias.f32(),
                          .up_bias = op.up.bias.f32(),
                          .down_bias = op.down.bias.f32(),
                          .swiglu = {op.activation.alpha, op.activation.limit},
                          .room = own_.expert_rows};
    if (rows_ > 1 && fast::expert_rows_fit(rows)) {
      enqueue("expert_rows", fast::expert_rows, rows);
      return;
    }
    const auto parts = static_cast<int64_t>(fast::router_part_floats(1, experts, router.parts));
    for (int row = 0; row < rows_; ++row) {
      float* const x = op.x + row * op.norm.weight.k;
      const float* const router_parts = own_.router_parts + row * parts;
      enqueue("gate_up", fast::gate_up,
              {.x = x,
               .router = router,
               .router_parts = router_parts,
               .gate = rows.gate,
               .up = rows.up,
               .gate_bias = rows.gate_bias,
               .up_bias = rows.up_bias,
               .swiglu = rows.swiglu,
               .activated = own_.expert_rows.activated});
      enqueue("down", fast::down,
              {.activated = own_.expert_rows.activated,
               .router = router,
               .router_parts = router_parts,
               .down = rows.down,
               .bias = rows.down_bias,
               .x = x});
    }
    return;
  }
  flush();
  const int64_t pairs = int64_t{rows_} * op.top_k;
  const NormRows before{.norm = op.norm, .x = op.x, .rows = rows_, .out = own_.normed};
  const auto choose = [&](DeviceStream stream) {
    route(own_.router_logits, rows_, experts, op.top_k, own_.routing, stream);
  };
  if (const int columns = fast::gemm_columns(fast::Kind::mxfp4, static_cast<int>(op.down.weight.k));
      is_fast(1, {&op.gate.weight, &op.up.weight, &op.down.weight}) && can_norm_round(op.norm) &&
      op.router.weight.format == Format::f32 && op.router.bias && op.gate.bias && op.up.bias &&
      op.activation.kind == ActivationKind::clamped_swiglu &&
      columns * sizeof(uint16_t) <= op.down.weight.k * sizeof(float)) {
    // What is activated goes to the next product as it is read there.
    auto* const activated = reinterpret_cast<uint16_t*>(own_.gate);
    const bool shuffled = fast::is_wide(static_cast<int>(pairs), experts);
    const uint16_t* const x = norm_round(before, op.gate.weight, shuffled,
                                         {.weight = op.router.weight.f32(),
                                          .bias = op.router.bias.f32(),
                                          .experts = experts,
                                          .scores = own_.router_logits});
    enqueue("route", choose);
    enqueue("gemm_gate_up", fast::gemm,
            {.x = x,
             .weight = packed(op.gate.weight),
             .bias = op.gate.bias.f32(),
             .slices = experts,
             .tokens = static_cast<int>(pairs),
             .begin = own_.routing.begin,
             .x_rows = own_.routing.pair_row,
             .up = packed(op.up.weight),
             .up_bias = op.up.bias.f32(),
             .swiglu = {op.activation.alpha, op.activation.limit},
             .activated = activated,
             .shuffled = shuffled});
    enqueue("gemm_down", fast::gemm,
            {.x = activated,
             .weight = packed(op.down.weight),
             .bias = bias_of(op.down),
             .slices = experts,
             .tokens = static_cast<int>(pairs),
             .begin = own_.routing.begin,
             .out = own_.down,
             .shuffled = shuffled});
  } else {
    enqueue("norm", norm_rows, before);
    linear(op.router, {.x = own_.normed, .tokens = rows_, .out = own_.router_logits});
    enqueue("route", choose);
    // A row chooses an expert once, so no expert has more tokens than there are rows.
    const auto of_experts = [&](const float* x, const int32_t* x_rows, float* out) {
      return DeviceTile{
          .x = x, .x_rows = x_rows, .begin = own_.routing.begin, .tokens = rows_, .out = out};
    };
    const Grouped from_rows{rows_, static_cast<int>(pairs)};
    const Grouped from_pairs{pairs, static_cast<int>(pairs)};
    linear(op.gate, of_experts(own_.normed, own_.routing.pair_row, own_.gate), from_rows);
    linear(op.up, of_experts(own_.normed, own_.routing.pair_row, own_.up), from_rows);
    enqueue("activate", [&](DeviceStream stream) {
      activate(op.activation, own_.gate, own_.up, pairs * op.gate.weight.rows, stream);
    });
    linear(op.down, of_experts(own_.gate, nullptr, own_.down), from_pairs);
  }
  enqueue("combine", [&](DeviceStream stream) {
    combine_experts(own_.routing, rows_, op.top_k, own_.down, static_cast<int>(op.norm.weight.k),
                    op.x, stream);
  });
}

void Backend::norm_logits(const NormLogits& op) {
  flush();
  if (wanted_ == 0) return;
  if (wants_run_ && is_fast(wanted_, {&op.head.weight}) && is_plain_rms(op.norm) && !op.head.bias) {
    enqueue("logits", fast::logits,
            {.x = op.x + first_wanted_ * op.norm.weight.k,
             .norm = {op.norm.weight.f32(), op.norm.eps},
             .head = packed(op.head.weight),
             .rows = wanted_,
             .logits = op.logits});
    return;
  }
  const NormRows before{
      .norm = op.norm, .x = op.x, .ids = logit_rows_, .rows = wanted_, .out = own_.normed};
  if (is_fast(1, {&op.head.weight}) && can_norm_round(op.norm)) {
    const bool shuffled = fast::is_wide(wanted_, 1);
    const uint16_t* const x = norm_round(before, op.head.weight, shuffled);
    enqueue("gemm_logits", fast::gemm,
            {.x = x,
             .weight = packed(op.head.weight),
             .bias = bias_of(op.head),
             .tokens = wanted_,
             .out = op.logits,
             .shuffled = shuffled});
    return;
  }
  enqueue("norm", norm_rows, before);
  linear(op.head, {.x = own_.normed, .tokens = wanted_, .out = op.logits});
}

}  // namespace mxgpt::cuda
