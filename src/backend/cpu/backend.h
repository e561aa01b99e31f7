// The CPU backend: the blocks of backend/backend.h over host memory and the thread pool.
#pragma once

#include <vector>

#include "backend/activation_hook.h"
#include "backend/backend.h"
#include "backend/cpu/linear.h"
#include "base/arena.h"
#include "kernels/accum_type.h"

namespace mxgpt::cpu {

class CpuBackend final : public backend::Backend {
 public:
  /// `hook` may be null; otherwise it outlives the backend. Linear layers accumulate in
  /// `accum_type`; all other sums are f32.
  CpuBackend(const backend::MaxShapes& max_shapes, backend::Precision precision,
             backend::ActivationHook* hook = nullptr,
             kernels::AccumType accum_type = kernels::AccumType::f32)
      : CpuBackend(max_shapes, precision, hook, accum_type,
                   Arena(bytes(max_shapes, precision), "workspace")) {}

  /// Bytes that the constructor allocates.
  static size_t bytes(const backend::MaxShapes& max_shapes, backend::Precision precision) {
    return CpuBackend(max_shapes, precision, nullptr, kernels::AccumType::f32, Arena())
        .arena_.used();
  }

  void begin_step(const backend::Batch& batch) override;
  void embed(const backend::Embed& op) override;
  void rope_cos_sin(const backend::RopeCosSin& op) override;
  void attention_block(const backend::AttentionBlock& op) override;
  void mlp_block(const backend::MlpBlock& op) override;
  void moe_block(const backend::MoeBlock& op) override;
  void lm_head(const backend::LmHead& op) override;

  /// The attention inside attention_block, for benchmarks.
  void attention(const backend::Attention& op);

 private:
  /// Lays out the buffers in `arena`. With an arena that only counts, nothing can run.
  CpuBackend(const backend::MaxShapes& max_shapes, backend::Precision precision,
             backend::ActivationHook* hook, kernels::AccumType accum_type, Arena arena);

  /// An expert selected for a row. Sorted by expert, selections are called pairs.
  struct ExpertChoice {
    int32_t expert;
    float weight;
  };

  /// Runs the tasks on activations_.
  void run_gemms(std::span<const GemmTask> tasks);
  /// activations_ = norm(x) for the rows of the batch.
  void bind_normed(const backend::Norm& norm, const float* x,
                   std::span<const backend::Tensor> weights);
  /// q_ = rope(q_norm(q(norm(x)))); keys and values go to the cache.
  void project_qkv(const backend::AttentionBlock& op);
  /// x += post_norm(linear(activations_)). Overwrites kv_proj_.
  void project_and_add(const backend::Linear& linear, const backend::Norm& post_norm, float* x);
  void route_topk(const float* router_logits, int64_t experts, int top_k);

  const backend::Batch* batch_ = nullptr;
  backend::MaxShapes max_shapes_;
  backend::ActivationHook* hook_;
  kernels::AccumType accum_type_;
  Arena arena_;  ///< owns the memory of the spans below
  Activations activations_;
  std::span<float> normed_;                 ///< [rows, hidden]
  std::span<float> q_, attn_out_;           ///< [rows, heads, head_dim]
  std::span<float> kv_proj_[2];             ///< [rows, max_linear_width]: k, v; projections
  std::span<float> router_logits_;          ///< [rows, experts]
  std::span<ExpertChoice> choices_;         ///< [rows, top_k], best first
  std::vector<int32_t> expert_offsets_;     ///< [experts + 1]: first pair of each expert
  std::vector<int32_t> expert_cursors_;     ///< [experts]: next free pair while sorting
  std::span<int32_t> sorted_token_ids_;     ///< [rows · top_k] by expert: row of x
  std::span<int32_t> identity_rows_;        ///< 0, 1, 2…: pair i reads row i of gate_
  std::span<int32_t> inverse_permutation_;  ///< [rows, top_k]: pair of each choice
  std::span<float> gate_, up_;              ///< [mlp_rows, intermediate]
  std::span<float> down_;                   ///< [pairs, hidden]
  std::vector<int32_t> chosen_experts_;     ///< [rows, top_k], for the hook
  std::vector<GemmTask> tasks_;
  /// Adjacent rows of one sequence. Attention works on one block and one KV head at a time.
  struct QueryBlock {
    int64_t first, rows;
  };
  std::vector<QueryBlock> query_blocks_;
  std::span<float> split_states_;  ///< attention states that are not merged yet
};

}  // namespace mxgpt::cpu
