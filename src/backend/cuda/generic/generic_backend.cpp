#include "backend/cuda/generic/generic_backend.h"

#include "backend/cuda/generic/attention.h"
#include "backend/cuda/generic/kernels.h"

namespace mxgpt::cuda {

namespace {

/// Up to this many rows, a weight is decoded once for all of them without tiling.
constexpr int kMaxGemvRows = 8;

}  // namespace

GenericBackend::GenericBackend(const backend::MaxShapes& max_shapes, DeviceArena& arena,
                               kernels::AccumType accum_type)
    : step_(max_shapes, arena), workspace_(max_shapes, arena), accum_type_(accum_type) {}

void GenericBackend::norm(const backend::Norm& norm, const float* x) {
  step_.enqueue("norm", norm_rows,
                {.norm = norm, .x = x, .rows = step_.rows(), .out = workspace_.normed});
}

void GenericBackend::linear(const backend::Linear& linear, GemmParams params) {
  const backend::Tensor& w = linear.weight;
  params.weights = w.data;
  params.row_bytes = w.row_bytes();
  params.num_experts = static_cast<int>(w.num_experts);
  params.rows = static_cast<int>(w.rows);
  params.k = static_cast<int>(w.k);
  params.bias = linear.bias ? linear.bias.f32() : nullptr;
  params.accum_type = accum_type_;
  const FormatKernels& kernels = w.layout ? mma_tile_kernels(w) : format_kernels(w.format);
  step_.enqueue(params.expert_offsets ? "linear_experts" : "linear",
                params.max_tokens <= kMaxGemvRows ? kernels.gemv : kernels.gemm, params);
}

void GenericBackend::project_and_add(const backend::Linear& projection,
                                     const backend::Norm& post_norm, const float* in, float* x) {
  const int rows = step_.rows();
  if (!post_norm) {
    linear(projection, {.x = in, .max_tokens = rows, .out = x, .add_to_out = true});
    return;
  }
  float* const projected = workspace_.attention.kv_proj[0];
  linear(projection, {.x = in, .max_tokens = rows, .out = projected});
  step_.enqueue("norm", norm_rows,
                {.norm = post_norm, .x = projected, .rows = rows, .out = x, .add = true});
}

void GenericBackend::attention_block(const backend::AttentionBlock& op) {
  const int rows = step_.rows();
  const AttentionWorkspace& w = workspace_.attention;
  norm(op.norm, op.x);
  linear(op.q, {.x = workspace_.normed, .max_tokens = rows, .out = w.q});
  linear(op.k, {.x = workspace_.normed, .max_tokens = rows, .out = w.kv_proj[0]});
  linear(op.v, {.x = workspace_.normed, .max_tokens = rows, .out = w.kv_proj[1]});
  enqueue_rope_store(step_, op, w);
  enqueue_paged_attention(step_, op, w);
  project_and_add(op.o, op.post_norm, w.attn_out, op.x);
}

void GenericBackend::mlp_block(const backend::MlpBlock& op) {
  const int rows = step_.rows();
  norm(op.norm, op.x);
  // Without a gate, the activation applies to `up` itself.
  float* const up = op.gate.weight ? workspace_.up : nullptr;
  linear(up ? op.gate : op.up,
         {.x = workspace_.normed, .max_tokens = rows, .out = workspace_.gate});
  if (up) linear(op.up, {.x = workspace_.normed, .max_tokens = rows, .out = up});
  step_.enqueue("activate", [&](CudaStream stream) {
    activate(op.activation, workspace_.gate, up, rows * op.up.weight.rows, stream);
  });
  project_and_add(op.down, op.post_norm, workspace_.gate, op.x);
}

void GenericBackend::moe_block(const backend::MoeBlock& op) {
  const int rows = step_.rows(), top_k = op.router.top_k;
  const auto experts = static_cast<int>(op.router.linear.weight.rows);
  const int64_t pairs = int64_t{rows} * top_k;
  const ExpertAssignment& assignment = workspace_.routing.assignment;
  norm(op.router.norm, op.x);
  linear(op.router.linear,
         {.x = workspace_.normed, .max_tokens = rows, .out = workspace_.routing.router_logits});
  step_.enqueue("route", [&](CudaStream stream) {
    route_topk(workspace_.routing.router_logits, rows, experts, top_k, assignment, stream);
  });
  // A row selects an expert at most once, so no expert has more tokens than there are rows.
  const auto grouped = [&](const float* x, const int32_t* row_indices, float* out) {
    return GemmParams{.x = x,
                      .row_indices = row_indices,
                      .expert_offsets = assignment.expert_offsets,
                      .max_tokens = rows,
                      .out = out};
  };
  linear(op.gate, grouped(workspace_.normed, assignment.sorted_token_ids, workspace_.gate));
  linear(op.up, grouped(workspace_.normed, assignment.sorted_token_ids, workspace_.up));
  step_.enqueue("activate", [&](CudaStream stream) {
    activate(op.activation, workspace_.gate, workspace_.up, pairs * op.gate.weight.rows, stream);
  });
  linear(op.down, grouped(workspace_.gate, nullptr, workspace_.down));
  step_.enqueue("combine", [&](CudaStream stream) {
    combine_experts(assignment, rows, top_k, workspace_.down,
                    static_cast<int>(op.router.norm.weight.k), op.x, stream);
  });
}

void GenericBackend::lm_head(const backend::LmHead& op) {
  const int rows = step_.logit_rows();
  if (rows == 0) return;
  step_.enqueue("norm", norm_rows,
                {.norm = op.norm,
                 .x = op.x,
                 .row_indices = step_.logit_row_ids(),
                 .rows = rows,
                 .out = workspace_.normed});
  linear(op.linear, {.x = workspace_.normed, .max_tokens = rows, .out = op.logits});
}

}  // namespace mxgpt::cuda
