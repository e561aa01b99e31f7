#include "backend/cuda/backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cuda/generic/kernels.h"
#include "backend/cuda/weight_repack.h"
#include "base/check.h"

namespace mxgpt::cuda {

namespace {

/// Up to this many rows a weight is decoded once for all of them without tiles.
constexpr int kMaxGemvRows = 8;

sm90::PackedWeight packed(const backend::Tensor& t) {
  return {reinterpret_cast<const uint8_t*>(t.data), weight_type(t.format), static_cast<int>(t.rows),
          static_cast<int>(t.k)};
}

sm90::RowOrder order_of(const backend::Tensor& t) {
  return t.layout == kTilesRopeHalves ? sm90::RowOrder::rope_halves_64 : sm90::RowOrder::natural;
}

const float* bias_of(const backend::Linear& linear) {
  return linear.bias ? linear.bias.f32() : nullptr;
}

bool is_plain_rms(const backend::Norm& norm) {
  return norm && norm.kind == backend::NormKind::rms && !norm.bias;
}

}  // namespace

struct GenericBackend::Host {
  Stream stream;
  std::optional<Memory> batch;  ///< pinned, as Workspace::batch
};

GenericBackend::GenericBackend(const MaxShapes& limits, DeviceArena& room,
                               kernels::AccumType accumulate, bool fast)
    : max_shapes_(limits),
      accumulate_(accumulate),
      host_(std::make_unique<Host>()),
      workspace_(limits, room, device_caps(), fast),
      sm90_(fast) {
  host_->batch.emplace(Memory::Kind::pinned,
                       workspace_.batch_capacity * static_cast<int64_t>(sizeof(int32_t)));
  if (sm90_) {
    host_->stream.zero(workspace_.moe_scratch.activated, workspace_.activated_bytes);
    host_->stream.zero(workspace_.split_counters,
                       workspace_.split_counter_count * static_cast<int64_t>(sizeof(int32_t)));
    host_->stream.synchronize();
  }
}

GenericBackend::~GenericBackend() = default;

template <class Params>
void GenericBackend::enqueue(const char* name, void (*launch)(const Params&, backend::CudaStream),
                             const std::type_identity_t<Params>& params) {
  const ScopedTimer timed(name, host_->stream.get());
  launch(params, host_->stream.get());
}

template <class Launch>
void GenericBackend::enqueue(const char* name, const Launch& launch) {
  const ScopedTimer timed(name, host_->stream.get());
  launch(host_->stream.get());
}

Stream& GenericBackend::stream() {
  return host_->stream;
}

const GraphKey& GenericBackend::stage_batch(const backend::Batch& batch) {
  pending_.reset();  // of a step that failed
  bf16_of_ = {};
  MXGPT_CHECK(batch.rows() > 0 && batch.rows() <= max_shapes_.rows, "{} rows, planned {}",
              batch.rows(), max_shapes_.rows);
  rows_ = static_cast<int>(batch.rows());
  logit_rows_count_ = static_cast<int>(batch.logit_rows.size());
  MXGPT_CHECK(logit_rows_count_ <= rows_, "{} logit rows of {}", logit_rows_count_, rows_);
  int64_t last = 0;
  for (int row = 0; row < rows_; ++row) {
    const int64_t token = batch.tokens[row], position = batch.positions[row];
    MXGPT_CHECK(token >= 0 && token < max_shapes_.vocabulary, "token {} of {}", token,
                max_shapes_.vocabulary);
    MXGPT_CHECK(position >= 0 && position < max_shapes_.context, "position {} of {}", position,
                max_shapes_.context);
    last = std::max(last, position);
  }
  first_logit_row_ = logit_rows_count_ ? batch.logit_rows.front() : 0;
  logit_rows_contiguous_ =
      logit_rows_count_ == 0 || batch.logit_rows.back() - first_logit_row_ == logit_rows_count_ - 1;
  graph_key_ = {.rows = rows_, .logit_rows = logit_rows_count_, .sequences = 1};
  for (int row = 1; row < rows_; ++row)
    graph_key_.sequences += batch.sequences[row] != batch.sequences[row - 1];
  MXGPT_CHECK(graph_key_.sequences <= max_shapes_.sequences, "{} sequences, planned {}",
              graph_key_.sequences, max_shapes_.sequences);
  const int64_t pages = last / backend::kPageTokens + 1;
  stride_ = pages;
  if (graph_key_.is_graphable()) {  // in few shapes, so that what was recorded fits again
    constexpr int64_t kLeastPages = 16;
    for (stride_ = kLeastPages; stride_ < pages;) stride_ *= 2;
    stride_ = std::min(stride_, max_shapes_.pages());
  }
  graph_key_.max_seq_len_bucket = stride_ * backend::kPageTokens;

  auto* const host = reinterpret_cast<int32_t*>(host_->batch->data());
  int64_t used = 0;
  const auto put = [&](std::span<const int32_t> values) {
    std::copy(values.begin(), values.end(), host + used);
    const int64_t at = used;
    used += static_cast<int64_t>(values.size());
    return workspace_.batch + at;
  };
  tokens_ = put(batch.tokens);
  positions_ = put(batch.positions);
  logit_rows_ = put(batch.logit_rows);
  slots_ = workspace_.batch + used;
  int slot = -1;
  std::vector<int32_t> sequences;
  for (int row = 0; row < rows_; ++row) {
    if (row == 0 || batch.sequences[row] != batch.sequences[row - 1]) {
      ++slot;
      sequences.push_back(batch.sequences[row]);
    }
    host[used++] = slot;
  }
  for (int group = 0; group < backend::kKvGroups; ++group) {
    tables_[group] = workspace_.batch + used;
    if (!batch.tables[group].pages) continue;  // a group that no layer uses
    for (const int32_t sequence : sequences) {
      // Of a sequence, the pages up to its last row's; what follows in the row is never read.
      put({batch.tables[group].pages + sequence * batch.tables[group].stride,
           static_cast<size_t>(pages)});
      used += stride_ - pages;
    }
  }
  batch_bytes_ = used * static_cast<int64_t>(sizeof(int32_t));
  return graph_key_;
}

void GenericBackend::begin(const backend::Batch& batch) {
  stage_batch(batch);
  host_->stream.copy(workspace_.batch, host_->batch->data(), batch_bytes_);
}

bool GenericBackend::can_use_sm90(int64_t rows,
                                  std::initializer_list<const backend::Tensor*> weights) const {
  return sm90_ && rows <= sm90::kMaxRows &&
         std::all_of(weights.begin(), weights.end(),
                     [](const backend::Tensor* t) { return t->layout != kAsInFile; });
}

void GenericBackend::flush() {
  bf16_of_ = {};  // an op is about to begin, and to write what another one rounded
  if (!pending_) return;
  const backend::ProjectResidual op = *std::exchange(pending_, std::nullopt);
  enqueue("project", sm90::o_proj,
          {.in = op.in,
           .weight = packed(op.linear.weight),
           .bias = bias_of(op.linear),
           .x = op.x,
           .rows = rows_,
           .router = {},
           .router_parts = workspace_.router_parts});
}

sm90::KvPages GenericBackend::pages(const backend::KvLayer& kv) const {
  return {.keys = kv.keys,
          .values = kv.values,
          .bf16 = kv.format == quant::Format::bf16,
          .table = tables_[static_cast<int>(kv.group)],
          .stride = stride_};
}

void GenericBackend::embed(const backend::Embed& op) {
  flush();
  enqueue("embed", backend::format_kernels(op.table.format).embed,
          {.table = op.table.data,
           .row_bytes = op.table.row_bytes(),
           .k = static_cast<int>(op.table.k),
           .ids = tokens_,
           .count = rows_,
           .scale = op.scale,
           .out = op.x});
  if (!op.positions) return;
  MXGPT_CHECK(max_shapes_.context <= op.positions.rows, "{} positions, planned {}",
              op.positions.rows, max_shapes_.context);
  enqueue("embed", backend::format_kernels(op.positions.format).embed,
          {.table = op.positions.data,
           .row_bytes = op.positions.row_bytes(),
           .k = static_cast<int>(op.positions.k),
           .ids = positions_,
           .count = rows_,
           .out = op.x,
           .add_to_out = true});
}

void GenericBackend::rotations(const backend::RopeCosSin& op) {
  enqueue("rotations", compute_rope_cos_sin,
          {.inv_freq = op.rope.inv_freq,
           .magnitude = op.rope.magnitude,
           .half = op.head_dim / 2,
           .positions = positions_,
           .rows = rows_,
           .cos = op.cos,
           .sin = op.sin});
}

const uint16_t* GenericBackend::to_bf16(const float* x, int64_t rows, const backend::Tensor& weight,
                                        bool shuffled) {
  const auto k = static_cast<int>(weight.k);
  const Bf16Source wanted{x, sm90::gemm_columns(weight_type(weight.format), k), shuffled};
  if (bf16_of_ != wanted) {
    enqueue("round", sm90::round_to_bf16,
            {.in = x,
             .rows = rows,
             .k = k,
             .columns = wanted.columns,
             .out = workspace_.bf16_activations,
             .permuted = shuffled});
    bf16_of_ = wanted;
  }
  return workspace_.bf16_activations;
}

bool GenericBackend::can_norm_to_bf16(const backend::Norm& norm) const {
  return sm90_ && is_plain_rms(norm) && norm.weight.k % 4 == 0 &&
         norm.weight.k <= sm90::kMaxNormColumns;
}

const uint16_t* GenericBackend::norm_to_bf16(const NormRows& p, const backend::Tensor& weight,
                                             bool shuffled, const sm90::RouterLogits& router) {
  const auto k = static_cast<int>(weight.k);
  bf16_of_ = {};
  enqueue("norm", sm90::norm_to_bf16,
          {.x = p.x,
           .ids = p.row_indices,
           .norm = {p.norm.weight.f32(), p.norm.eps},
           .rows = p.rows,
           .k = k,
           .columns = sm90::gemm_columns(weight_type(weight.format), k),
           .out = workspace_.bf16_activations,
           .permuted = shuffled,
           .router = router});
  return workspace_.bf16_activations;
}

void GenericBackend::enqueue_linear(const backend::Linear& linear, backend::GemmParams tile,
                                    const GroupedGemmShape& grouped) {
  const backend::Tensor& w = linear.weight;
  if (sm90_ && w.layout != kAsInFile) {
    const int64_t rows = grouped.x_rows ? grouped.x_rows : tile.max_tokens;
    const int tokens = grouped.tokens ? grouped.tokens : tile.max_tokens;
    const bool shuffled = sm90::use_wgmma(tokens, static_cast<int>(w.num_experts));
    const uint16_t* const x = to_bf16(tile.x, rows, w, shuffled);
    enqueue("gemm", sm90::gemm,
            {.x = x,
             .weight = packed(w),
             .order = order_of(w),
             .bias = bias_of(linear),
             .slices = static_cast<int>(w.num_experts),
             .tokens = tokens,
             .begin = tile.expert_offsets,
             .x_rows = tile.row_indices,
             .out = tile.out,
             .add = tile.add_to_out,
             .permuted = shuffled});
    return;
  }
  tile.weights = w.data;
  tile.row_bytes = w.row_bytes();
  tile.num_experts = static_cast<int>(w.num_experts);
  tile.rows = static_cast<int>(w.rows);
  tile.k = static_cast<int>(w.k);
  tile.bias = linear.bias ? linear.bias.f32() : nullptr;
  tile.accum_type = accumulate_;
  const backend::FormatKernels& kernels =
      w.layout ? mma_tile_kernels(w) : backend::format_kernels(w.format);
  enqueue(tile.expert_offsets ? "linear_experts" : "linear",
          tile.max_tokens <= kMaxGemvRows ? kernels.gemv : kernels.gemm, tile);
}

void GenericBackend::norm_qkv_rope_store(const backend::NormQkvRopeStore& op) {
  flush();
  const bool narrow = op.kv.format == quant::Format::f16 || op.kv.format == quant::Format::bf16;
  if (can_use_sm90(rows_, {&op.q.weight, &op.k.weight, &op.v.weight}) && narrow &&
      is_plain_rms(op.norm) && !op.q_norm && !op.k_norm && op.cos &&
      op.q.weight.format == op.k.weight.format && op.q.weight.format == op.v.weight.format) {
    enqueue("qkv", sm90::qkv,
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
             .coords = {positions_, slots_},
             .kv = pages(op.kv),
             .q_out = op.q_out});
    return;
  }
  const NormRows before{.norm = op.norm, .x = op.x, .rows = rows_, .out = workspace_.normed};
  if (const backend::Tensor* const all[] = {&op.q.weight, &op.k.weight, &op.v.weight};
      can_use_sm90(1, {all[0], all[1], all[2]}) && all[0]->format == all[1]->format &&
      all[0]->format == all[2]->format && can_norm_to_bf16(op.norm)) {
    const auto part = [](const backend::Linear& linear, float* out) {
      return sm90::GemmProblem{packed(linear.weight), order_of(linear.weight), bias_of(linear),
                               out};
    };
    const bool shuffled = sm90::use_wgmma(rows_, 1);
    const uint16_t* const x = norm_to_bf16(before, op.q.weight, shuffled);
    enqueue("gemm_qkv", sm90::gemm,
            {.x = x,
             .weight = packed(op.q.weight),
             .order = order_of(op.q.weight),
             .bias = bias_of(op.q),
             .tokens = rows_,
             .out = op.q_out,
             .also = {part(op.k, workspace_.kv_proj[0]), part(op.v, workspace_.kv_proj[1])},
             .permuted = shuffled});
  } else {
    enqueue("norm", norm_rows, before);
    enqueue_linear(op.q, {.x = workspace_.normed, .max_tokens = rows_, .out = op.q_out});
    enqueue_linear(op.k,
                   {.x = workspace_.normed, .max_tokens = rows_, .out = workspace_.kv_proj[0]});
    enqueue_linear(op.v,
                   {.x = workspace_.normed, .max_tokens = rows_, .out = workspace_.kv_proj[1]});
  }
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  enqueue("finish_heads", qk_norm_rope_store_kv,
          {.q = op.q_out,
           .k = workspace_.kv_proj[0],
           .v = workspace_.kv_proj[1],
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

void GenericBackend::attend(const backend::Attend& op) {
  flush();
  const bool narrow = op.kv.format == quant::Format::f16 || op.kv.format == quant::Format::bf16;
  if (sm90_ && narrow && op.head_dim == 64 && op.heads == sm90::kGqaGroup * op.kv_heads) {
    sm90::AttentionArgs attend{
        .q = op.q,
        .rows = rows_,
        .step_rows = rows_,
        .kv_heads = op.kv_heads,
        .scale = op.scale,
        .kv = pages(op.kv),
        .coords = {positions_, slots_},
        .window = static_cast<int>(op.window),
        .sinks = op.sinks ? op.sinks.f32() : nullptr,
        .pages_per_split = workspace_.pages_per_split,
        .max_splits = static_cast<int>(stride_) / workspace_.pages_per_split + 1,
        .scratch = workspace_.attend_scratch,
        .split_counters = workspace_.split_counters,
        .out = op.out};
    // Blocks of queries, which pay where rows are mostly of one sequence.
    if (rows_ > sm90::kMaxRows && rows_ >= kMaxGemvRows * graph_key_.sequences)
      return enqueue("attend_rows", sm90::attn_prefill, attend);
    // As many rows at a time as there is scratch for.
    const auto each =
        static_cast<int64_t>(sm90::attend_scratch_floats(1, op.kv_heads, attend.max_splits));
    const auto together = static_cast<int>(std::min(workspace_.attend_scratch_floats / each,
                                                    workspace_.split_counter_count / op.kv_heads));
    const int64_t width = int64_t{op.heads} * op.head_dim;
    for (int row = 0; row < rows_; row += together) {
      attend.rows = std::min(together, rows_ - row);
      attend.q = op.q + row * width;
      attend.out = op.out + row * width;
      attend.coords = {positions_ + row, slots_ + row};
      enqueue("attend", sm90::attn_decode, attend);
    }
    return;
  }
  enqueue("attend_generic", [&](backend::CudaStream stream) {
    paged_attention({.op = op,
                     .rows = rows_,
                     .positions = positions_,
                     .slots = slots_,
                     .table = tables_[static_cast<int>(op.kv.group)],
                     .stride = stride_,
                     .splits = workspace_.splits},
                    graph_key_.max_seq_len_bucket - 1, stream);
  });
}

void GenericBackend::project_and_add(const backend::Linear& projection,
                                     const backend::Norm& post_norm, const float* in, float* x) {
  if (!post_norm) {
    enqueue_linear(projection, {.x = in, .max_tokens = rows_, .out = x, .add_to_out = true});
    return;
  }
  enqueue_linear(projection, {.x = in, .max_tokens = rows_, .out = workspace_.kv_proj[0]});
  enqueue("norm", norm_rows,
          {.norm = post_norm, .x = workspace_.kv_proj[0], .rows = rows_, .out = x, .add = true});
}

void GenericBackend::project_residual(const backend::ProjectResidual& op) {
  flush();
  if (can_use_sm90(rows_, {&op.linear.weight}) && !op.post_norm) {
    pending_ = op;
    return;
  }
  project_and_add(op.linear, op.post_norm, op.in, op.x);
}

void GenericBackend::norm_mlp_residual(const backend::NormMlpResidual& op) {
  flush();
  enqueue("norm", norm_rows, {.norm = op.norm, .x = op.x, .rows = rows_, .out = workspace_.normed});
  // Without a gate, what is activated is `up` itself.
  float* up = op.gate.weight ? workspace_.up : nullptr;
  enqueue_linear(up ? op.gate : op.up,
                 {.x = workspace_.normed, .max_tokens = rows_, .out = workspace_.gate});
  if (up) enqueue_linear(op.up, {.x = workspace_.normed, .max_tokens = rows_, .out = up});
  enqueue("activate", [&](backend::CudaStream stream) {
    activate(op.activation, workspace_.gate, up, rows_ * op.up.weight.rows, stream);
  });
  project_and_add(op.down, op.post_norm, workspace_.gate, op.x);
}

void GenericBackend::norm_route_experts_residual(const backend::NormRouteExpertsResidual& op) {
  const auto experts = static_cast<int>(op.router.weight.rows);
  if (pending_ && can_use_sm90(rows_, {&op.gate.weight, &op.up.weight, &op.down.weight}) &&
      op.router.weight.format == quant::Format::f32 && op.router.bias && op.gate.bias &&
      op.up.bias && op.down.bias && is_plain_rms(op.norm) && pending_->x == op.x) {
    const backend::ProjectResidual project = *std::exchange(pending_, std::nullopt);
    const sm90::Router router{.weight = op.router.weight.f32(),
                              .bias = op.router.bias.f32(),
                              .norm = op.norm.weight.f32(),
                              .eps = op.norm.eps,
                              .experts = experts,
                              .top_k = op.top_k,
                              .parts = sm90::router_parts()};
    enqueue("project", sm90::o_proj,
            {.in = project.in,
             .weight = packed(project.linear.weight),
             .bias = bias_of(project.linear),
             .x = op.x,
             .rows = rows_,
             .router = router,
             .router_parts = workspace_.router_parts});
    sm90::MoeSmallBatch rows{.x = op.x,
                             .rows = rows_,
                             .router = router,
                             .router_parts = workspace_.router_parts,
                             .gate = packed(op.gate.weight),
                             .up = packed(op.up.weight),
                             .down = packed(op.down.weight),
                             .gate_bias = op.gate.bias.f32(),
                             .up_bias = op.up.bias.f32(),
                             .down_bias = op.down.bias.f32(),
                             .swiglu = {op.activation.alpha, op.activation.limit},
                             .scratch = workspace_.moe_scratch};
    if (rows_ > 1 && sm90::moe_small_batch_fits(rows)) {
      enqueue("expert_rows", sm90::moe_small_batch, rows);
      return;
    }
    const auto parts = static_cast<int64_t>(sm90::router_part_floats(1, experts, router.parts));
    for (int row = 0; row < rows_; ++row) {
      float* const x = op.x + row * op.norm.weight.k;
      const float* const router_parts = workspace_.router_parts + row * parts;
      enqueue("gate_up", sm90::gate_up,
              {.x = x,
               .router = router,
               .router_parts = router_parts,
               .gate = rows.gate,
               .up = rows.up,
               .gate_bias = rows.gate_bias,
               .up_bias = rows.up_bias,
               .swiglu = rows.swiglu,
               .activated = workspace_.moe_scratch.activated});
      enqueue("down", sm90::down,
              {.activated = workspace_.moe_scratch.activated,
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
  const NormRows before{.norm = op.norm, .x = op.x, .rows = rows_, .out = workspace_.normed};
  const auto choose = [&](backend::CudaStream stream) {
    route_topk(workspace_.router_logits, rows_, experts, op.top_k, workspace_.assignment, stream);
  };
  if (const int columns =
          sm90::gemm_columns(sm90::WeightType::mxfp4, static_cast<int>(op.down.weight.k));
      can_use_sm90(1, {&op.gate.weight, &op.up.weight, &op.down.weight}) &&
      can_norm_to_bf16(op.norm) && op.router.weight.format == quant::Format::f32 &&
      op.router.bias && op.gate.bias && op.up.bias &&
      op.activation.kind == backend::ActivationKind::clamped_swiglu &&
      columns * sizeof(uint16_t) <= op.down.weight.k * sizeof(float)) {
    // What is activated goes to the next product as it is read there.
    auto* const activated = reinterpret_cast<uint16_t*>(workspace_.gate);
    const bool shuffled = sm90::use_wgmma(static_cast<int>(pairs), experts);
    const uint16_t* const x = norm_to_bf16(before, op.gate.weight, shuffled,
                                           {.weight = op.router.weight.f32(),
                                            .bias = op.router.bias.f32(),
                                            .experts = experts,
                                            .scores = workspace_.router_logits});
    enqueue("route", choose);
    enqueue("gemm_gate_up", sm90::gemm,
            {.x = x,
             .weight = packed(op.gate.weight),
             .bias = op.gate.bias.f32(),
             .slices = experts,
             .tokens = static_cast<int>(pairs),
             .begin = workspace_.assignment.expert_offsets,
             .x_rows = workspace_.assignment.sorted_token_ids,
             .up = packed(op.up.weight),
             .up_bias = op.up.bias.f32(),
             .swiglu = {op.activation.alpha, op.activation.limit},
             .activated = activated,
             .permuted = shuffled});
    enqueue("gemm_down", sm90::gemm,
            {.x = activated,
             .weight = packed(op.down.weight),
             .bias = bias_of(op.down),
             .slices = experts,
             .tokens = static_cast<int>(pairs),
             .begin = workspace_.assignment.expert_offsets,
             .out = workspace_.down,
             .permuted = shuffled});
  } else {
    enqueue("norm", norm_rows, before);
    enqueue_linear(op.router,
                   {.x = workspace_.normed, .max_tokens = rows_, .out = workspace_.router_logits});
    enqueue("route", choose);
    // A row chooses an expert once, so no expert has more tokens than there are rows.
    const auto of_experts = [&](const float* x, const int32_t* x_rows, float* out) {
      return backend::GemmParams{.x = x,
                                 .row_indices = x_rows,
                                 .expert_offsets = workspace_.assignment.expert_offsets,
                                 .max_tokens = rows_,
                                 .out = out};
    };
    const GroupedGemmShape from_rows{rows_, static_cast<int>(pairs)};
    const GroupedGemmShape from_pairs{pairs, static_cast<int>(pairs)};
    enqueue_linear(
        op.gate,
        of_experts(workspace_.normed, workspace_.assignment.sorted_token_ids, workspace_.gate),
        from_rows);
    enqueue_linear(
        op.up, of_experts(workspace_.normed, workspace_.assignment.sorted_token_ids, workspace_.up),
        from_rows);
    enqueue("activate", [&](backend::CudaStream stream) {
      activate(op.activation, workspace_.gate, workspace_.up, pairs * op.gate.weight.rows, stream);
    });
    enqueue_linear(op.down, of_experts(workspace_.gate, nullptr, workspace_.down), from_pairs);
  }
  enqueue("combine", [&](backend::CudaStream stream) {
    combine_experts(workspace_.assignment, rows_, op.top_k, workspace_.down,
                    static_cast<int>(op.norm.weight.k), op.x, stream);
  });
}

void GenericBackend::norm_logits(const backend::NormLogits& op) {
  flush();
  if (logit_rows_count_ == 0) return;
  if (logit_rows_contiguous_ && can_use_sm90(logit_rows_count_, {&op.head.weight}) &&
      is_plain_rms(op.norm) && !op.head.bias) {
    enqueue("logits", sm90::logits,
            {.x = op.x + first_logit_row_ * op.norm.weight.k,
             .norm = {op.norm.weight.f32(), op.norm.eps},
             .head = packed(op.head.weight),
             .rows = logit_rows_count_,
             .logits = op.logits});
    return;
  }
  const NormRows before{.norm = op.norm,
                        .x = op.x,
                        .row_indices = logit_rows_,
                        .rows = logit_rows_count_,
                        .out = workspace_.normed};
  if (can_use_sm90(1, {&op.head.weight}) && can_norm_to_bf16(op.norm)) {
    const bool shuffled = sm90::use_wgmma(logit_rows_count_, 1);
    const uint16_t* const x = norm_to_bf16(before, op.head.weight, shuffled);
    enqueue("gemm_logits", sm90::gemm,
            {.x = x,
             .weight = packed(op.head.weight),
             .bias = bias_of(op.head),
             .tokens = logit_rows_count_,
             .out = op.logits,
             .permuted = shuffled});
    return;
  }
  enqueue("norm", norm_rows, before);
  enqueue_linear(op.head,
                 {.x = workspace_.normed, .max_tokens = logit_rows_count_, .out = op.logits});
}

}  // namespace mxgpt::cuda
