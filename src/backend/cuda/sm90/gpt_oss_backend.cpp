#include "backend/cuda/sm90/gpt_oss_backend.h"

#include <algorithm>

#include "backend/cuda/generic/attention.h"
#include "backend/cuda/generic/kernels.h"
#include "base/check.h"

namespace mxgpt::cuda::sm90 {

namespace {

PackedWeight packed(const backend::Tensor& t) {
  return {reinterpret_cast<const uint8_t*>(t.data), weight_type(t.format), static_cast<int>(t.rows),
          static_cast<int>(t.k)};
}

RowOrder row_order(const backend::Tensor& t) {
  return t.layout == kMmaTilesRopePaired ? RowOrder::rope_halves_64 : RowOrder::natural;
}

const float* bias_or_null(const backend::Linear& linear) {
  return linear.bias ? linear.bias.f32() : nullptr;
}

RmsNorm rms_norm(const backend::Norm& norm) {
  return {norm.weight.f32(), norm.eps};
}

Router fused_router(const backend::Router& router) {
  return {.weight = router.linear.weight.f32(),
          .bias = router.linear.bias.f32(),
          .norm = router.norm.weight.f32(),
          .eps = router.norm.eps,
          .experts = static_cast<int>(router.linear.weight.rows),
          .top_k = router.top_k,
          .parts = router_parts()};
}

KvPages kv_pages(const backend::KvLayer& kv, const Step& step) {
  return {.keys = kv.keys,
          .values = kv.values,
          .bf16 = kv.format == quant::Format::bf16,
          .table = step.table(kv.group),
          .stride = step.table_stride()};
}

}  // namespace

Sm90GptOssBackend::Sm90GptOssBackend(const BackendSpec& spec, DeviceArena& arena)
    : max_shapes_(spec.max_shapes),
      kv_is_16_bit_(spec.run.kv_format == quant::Format::f16 ||
                    spec.run.kv_format == quant::Format::bf16),
      native_attention_(kv_is_16_bit_ && spec.model.heads == kGqaGroup * spec.model.kv_heads),
      step_(max_shapes_, arena),
      workspace_(max_shapes_, arena) {
  Stream& stream = step_.stream();
  stream.zero(workspace_.moe_scratch.activated, workspace_.activated_bytes);
  stream.zero(workspace_.split_counters,
              workspace_.split_counter_count * static_cast<int64_t>(sizeof(int32_t)));
  stream.synchronize();
}

Sm90GptOssBackend::Plan Sm90GptOssBackend::plan_step() const {
  const int rows = step_.rows(), logit_rows = step_.logit_rows();
  const auto hidden = static_cast<int>(max_shapes_.hidden);
  const auto experts = static_cast<int>(max_shapes_.experts);
  const auto top_k = static_cast<int>(max_shapes_.top_k);
  const bool small = rows <= kMaxRows;
  // Blocks of queries pay off where most rows belong to one sequence.
  constexpr int kMinRowsPerSequence = 8;
  const bool prompt = !small && rows >= kMinRowsPerSequence * step_.key().sequences;
  const MoeSmallBatch batch{
      .rows = rows,
      .router = {.top_k = top_k},
      .gate = {nullptr, WeightType::mxfp4, static_cast<int>(max_shapes_.intermediate), hidden},
      .down = {nullptr, WeightType::mxfp4, hidden, static_cast<int>(max_shapes_.intermediate)}};
  return {.qkv = small && kv_is_16_bit_ ? LinearKernel::gemv : LinearKernel::gemm,
          .o = small ? LinearKernel::gemv : LinearKernel::gemm,
          .lm_head = logit_rows <= kMaxRows && step_.logit_rows_contiguous() ? LinearKernel::gemv
                                                                             : LinearKernel::gemm,
          .attention = !native_attention_ ? AttentionKernel::portable
                       : prompt           ? AttentionKernel::prefill
                                          : AttentionKernel::decode,
          .moe = !small                                    ? MoeKernel::gemm
                 : rows > 1 && moe_small_batch_fits(batch) ? MoeKernel::small_batch
                                                           : MoeKernel::per_row,
          .permuted_dense = use_wgmma(rows, 1),
          .permuted_moe = use_wgmma(rows * top_k, experts),
          .permuted_lm_head = use_wgmma(logit_rows, 1)};
}

void Sm90GptOssBackend::begin_step(const backend::Batch& batch) {
  step_.stage(batch);
  plan_ = plan_step();
}

void Sm90GptOssBackend::norm_to_bf16(const backend::Norm& norm, const float* x,
                                     const int32_t* row_ids, int rows,
                                     const backend::Tensor& weight, bool permuted,
                                     const RouterLogits& router) {
  const auto k = static_cast<int>(weight.k);
  step_.enqueue("norm_to_bf16", sm90::norm_to_bf16,
                {.x = x,
                 .ids = row_ids,
                 .norm = rms_norm(norm),
                 .rows = rows,
                 .k = k,
                 .columns = gemm_columns(weight_type(weight.format), k),
                 .out = workspace_.bf16_activations,
                 .permuted = permuted,
                 .router = router});
}

void Sm90GptOssBackend::qkv_gemv(const backend::AttentionBlock& op) {
  step_.enqueue("qkv", qkv,
                {.x = op.x,
                 .norm = rms_norm(op.norm),
                 .q = packed(op.q.weight),
                 .k = packed(op.k.weight),
                 .v = packed(op.v.weight),
                 .q_bias = bias_or_null(op.q),
                 .k_bias = bias_or_null(op.k),
                 .v_bias = bias_or_null(op.v),
                 .cos = op.cos,
                 .sin = op.sin,
                 .rows = step_.rows(),
                 .kv_heads = op.kv_heads,
                 .coords = {step_.positions(), step_.slots()},
                 .kv = kv_pages(op.kv, step_),
                 .q_out = workspace_.attention.q});
}

void Sm90GptOssBackend::qkv_gemm(const backend::AttentionBlock& op) {
  const auto problem = [](const backend::Linear& linear, float* out) {
    return GemmProblem{packed(linear.weight), row_order(linear.weight), bias_or_null(linear), out};
  };
  norm_to_bf16(op.norm, op.x, nullptr, step_.rows(), op.q.weight, plan_.permuted_dense);
  step_.enqueue("gemm_qkv", gemm,
                {.x = workspace_.bf16_activations,
                 .weight = packed(op.q.weight),
                 .order = row_order(op.q.weight),
                 .bias = bias_or_null(op.q),
                 .tokens = step_.rows(),
                 .out = workspace_.attention.q,
                 .also = {problem(op.k, workspace_.attention.kv_proj[0]),
                          problem(op.v, workspace_.attention.kv_proj[1])},
                 .permuted = plan_.permuted_dense});
  enqueue_rope_store(step_, op, workspace_.attention);
}

void Sm90GptOssBackend::attention(const backend::AttentionBlock& op) {
  if (plan_.attention == AttentionKernel::portable)
    return enqueue_paged_attention(step_, op, workspace_.attention);
  const int rows = step_.rows();
  AttentionArgs args{
      .q = workspace_.attention.q,
      .rows = rows,
      .step_rows = rows,
      .kv_heads = op.kv_heads,
      .scale = op.scale,
      .kv = kv_pages(op.kv, step_),
      .coords = {step_.positions(), step_.slots()},
      .window = static_cast<int>(op.window),
      .sinks = op.sinks ? op.sinks.f32() : nullptr,
      .pages_per_split = workspace_.pages_per_split,
      .max_splits = static_cast<int>(step_.table_stride()) / workspace_.pages_per_split + 1,
      .scratch = workspace_.attn_scratch,
      .split_counters = workspace_.split_counters,
      .out = workspace_.attention.attn_out};
  if (plan_.attention == AttentionKernel::prefill)
    return step_.enqueue("attn_prefill", attn_prefill, args);
  // As many rows at a time as the scratch memory holds.
  const auto row_floats =
      static_cast<int64_t>(attend_scratch_floats(1, op.kv_heads, args.max_splits));
  const auto rows_at_once = static_cast<int>(std::min(
      workspace_.attn_scratch_floats / row_floats, workspace_.split_counter_count / op.kv_heads));
  const int64_t width = int64_t{op.heads} * op.head_dim;
  for (int row = 0; row < rows; row += rows_at_once) {
    args.rows = std::min(rows_at_once, rows - row);
    args.q = workspace_.attention.q + row * width;
    args.out = workspace_.attention.attn_out + row * width;
    args.coords = {step_.positions() + row, step_.slots() + row};
    step_.enqueue("attn_decode", attn_decode, args);
  }
}

void Sm90GptOssBackend::o_proj_gemv(const backend::AttentionBlock& op) {
  MXGPT_CHECK(op.next_router && op.next_router->partial_logits, "next_router {}",
              op.next_router != nullptr);
  step_.enqueue("o_proj", o_proj,
                {.in = workspace_.attention.attn_out,
                 .weight = packed(op.o.weight),
                 .bias = bias_or_null(op.o),
                 .x = op.x,
                 .rows = step_.rows(),
                 .router = fused_router(*op.next_router),
                 .router_parts = op.next_router->partial_logits});
}

void Sm90GptOssBackend::o_proj_gemm(const backend::AttentionBlock& op) {
  const auto k = static_cast<int>(op.o.weight.k);
  step_.enqueue("round_to_bf16", round_to_bf16,
                {.in = workspace_.attention.attn_out,
                 .rows = step_.rows(),
                 .k = k,
                 .columns = gemm_columns(weight_type(op.o.weight.format), k),
                 .out = workspace_.bf16_activations,
                 .permuted = plan_.permuted_dense});
  step_.enqueue("gemm_o", gemm,
                {.x = workspace_.bf16_activations,
                 .weight = packed(op.o.weight),
                 .bias = bias_or_null(op.o),
                 .tokens = step_.rows(),
                 .out = op.x,
                 .add = true,
                 .permuted = plan_.permuted_dense});
}

void Sm90GptOssBackend::attention_block(const backend::AttentionBlock& op) {
  plan_.qkv == LinearKernel::gemv ? qkv_gemv(op) : qkv_gemm(op);
  attention(op);
  plan_.o == LinearKernel::gemv ? o_proj_gemv(op) : o_proj_gemm(op);
}

void Sm90GptOssBackend::mlp_block(const backend::MlpBlock&) {
  MXGPT_CHECK(false, "no dense MLP in {}", "gpt-oss");
}

void Sm90GptOssBackend::moe_gemv(const backend::MoeBlock& op) {
  const MoeSmallBatch batch{.x = op.x,
                            .rows = step_.rows(),
                            .router = fused_router(op.router),
                            .router_parts = op.router.partial_logits,
                            .gate = packed(op.gate.weight),
                            .up = packed(op.up.weight),
                            .down = packed(op.down.weight),
                            .gate_bias = op.gate.bias.f32(),
                            .up_bias = op.up.bias.f32(),
                            .down_bias = op.down.bias.f32(),
                            .swiglu = {op.activation.alpha, op.activation.limit},
                            .scratch = workspace_.moe_scratch};
  if (plan_.moe == MoeKernel::small_batch)
    return step_.enqueue("moe_small_batch", moe_small_batch, batch);
  const auto row_partials =
      static_cast<int64_t>(router_part_floats(1, batch.router.experts, batch.router.parts));
  for (int row = 0; row < batch.rows; ++row) {
    float* const x = op.x + row * op.router.norm.weight.k;
    const float* const partials = batch.router_parts + row * row_partials;
    step_.enqueue("gate_up", gate_up,
                  {.x = x,
                   .router = batch.router,
                   .router_parts = partials,
                   .gate = batch.gate,
                   .up = batch.up,
                   .gate_bias = batch.gate_bias,
                   .up_bias = batch.up_bias,
                   .swiglu = batch.swiglu,
                   .activated = workspace_.moe_scratch.activated});
    step_.enqueue("down", down,
                  {.activated = workspace_.moe_scratch.activated,
                   .router = batch.router,
                   .router_parts = partials,
                   .down = batch.down,
                   .bias = batch.down_bias,
                   .x = x});
  }
}

void Sm90GptOssBackend::moe_gemm(const backend::MoeBlock& op) {
  const int rows = step_.rows(), top_k = op.router.top_k, pairs = rows * top_k;
  const auto experts = static_cast<int>(op.router.linear.weight.rows);
  const ExpertAssignment& assignment = workspace_.routing.assignment;
  float* const router_logits = workspace_.routing.router_logits;
  norm_to_bf16(op.router.norm, op.x, nullptr, rows, op.gate.weight, plan_.permuted_moe,
               {.weight = op.router.linear.weight.f32(),
                .bias = op.router.linear.bias.f32(),
                .experts = experts,
                .scores = router_logits});
  step_.enqueue("route", [&](CudaStream stream) {
    route_topk(router_logits, rows, experts, top_k, assignment, stream);
  });
  step_.enqueue("gemm_gate_up", gemm,
                {.x = workspace_.bf16_activations,
                 .weight = packed(op.gate.weight),
                 .bias = op.gate.bias.f32(),
                 .slices = experts,
                 .tokens = pairs,
                 .begin = assignment.expert_offsets,
                 .x_rows = assignment.sorted_token_ids,
                 .up = packed(op.up.weight),
                 .up_bias = op.up.bias.f32(),
                 .swiglu = {op.activation.alpha, op.activation.limit},
                 .activated = workspace_.moe_activated,
                 .permuted = plan_.permuted_moe});
  step_.enqueue("gemm_down", gemm,
                {.x = workspace_.moe_activated,
                 .weight = packed(op.down.weight),
                 .bias = bias_or_null(op.down),
                 .slices = experts,
                 .tokens = pairs,
                 .begin = assignment.expert_offsets,
                 .out = workspace_.down,
                 .permuted = plan_.permuted_moe});
  step_.enqueue("combine", [&](CudaStream stream) {
    combine_experts(assignment, rows, top_k, workspace_.down,
                    static_cast<int>(op.router.norm.weight.k), op.x, stream);
  });
}

void Sm90GptOssBackend::moe_block(const backend::MoeBlock& op) {
  plan_.moe == MoeKernel::gemm ? moe_gemm(op) : moe_gemv(op);
}

void Sm90GptOssBackend::lm_head(const backend::LmHead& op) {
  const int rows = step_.logit_rows();
  if (rows == 0) return;
  if (plan_.lm_head == LinearKernel::gemv)
    return step_.enqueue("lm_head", logits,
                         {.x = op.x + step_.first_logit_row() * op.norm.weight.k,
                          .norm = rms_norm(op.norm),
                          .head = packed(op.linear.weight),
                          .rows = rows,
                          .logits = op.logits});
  norm_to_bf16(op.norm, op.x, step_.logit_row_ids(), rows, op.linear.weight,
               plan_.permuted_lm_head);
  step_.enqueue("gemm_lm_head", gemm,
                {.x = workspace_.bf16_activations,
                 .weight = packed(op.linear.weight),
                 .bias = bias_or_null(op.linear),
                 .tokens = rows,
                 .out = op.logits,
                 .permuted = plan_.permuted_lm_head});
}

}  // namespace mxgpt::cuda::sm90
