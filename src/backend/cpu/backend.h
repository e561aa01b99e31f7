// The CPU backend: the ops of backend/ops.h over host memory and base/thread_pool.h.
#pragma once

#include <vector>

#include "backend/activation_hook.h"
#include "backend/cpu/linear.h"
#include "backend/ops.h"
#include "base/arena.h"

namespace mxgpt::cpu {

/// The most a step of one model asks for. The backend allocates for it once.
struct MaxShapes {
  int64_t rows = 0;  ///< of a batch
  int64_t hidden = 0;
  int64_t max_linear_width = 0;  ///< longest row that a linear outside the MLP reads or, but for
                                 ///< the head, writes
  int64_t head_dim = 0;          ///< 0: attention has no room for sharing out one row's positions
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models

  /// Rows of an MLP's inner activations: a row of the batch has one for each expert it chose.
  int64_t mlp_rows() const { return rows * (experts ? top_k : 1); }
};

/// One per runner; a step at a time.
class CpuBackend {
 public:
  /// `observer` may be null; else it outlives the backend. `accumulate` is what linear layers sum
  /// in; all other sums are f32.
  CpuBackend(const MaxShapes& limits, backend::Precision precision,
             backend::ActivationHook* observer = nullptr,
             kernels::AccumType accumulate = kernels::AccumType::f32)
      : CpuBackend(limits, precision, observer, accumulate,
                   Arena(bytes(limits, precision), "workspace")) {}

  /// What a backend of these limits allocates.
  static size_t bytes(const MaxShapes& limits, backend::Precision precision) {
    return CpuBackend(limits, precision, nullptr, kernels::AccumType::f32, Arena()).arena_.used();
  }

  /// The batch that the ops refer to until the next call. It must outlive them.
  void begin(const backend::Batch& batch);

  void embed(const backend::Embed& op);
  void rotations(const backend::RopeCosSin& op);
  void norm_qkv_rope_store(const backend::NormQkvRopeStore& op);
  void attend(const backend::Attend& op);
  void project_residual(const backend::ProjectResidual& op);
  void norm_mlp_residual(const backend::NormMlpResidual& op);
  void norm_route_experts_residual(const backend::NormRouteExpertsResidual& op);
  void norm_logits(const backend::NormLogits& op);

 private:
  /// Lays out its buffers in `arena`; if that only counts, nothing can be run.
  CpuBackend(const MaxShapes& limits, backend::Precision precision,
             backend::ActivationHook* observer, kernels::AccumType accumulate, Arena arena);

  /// A row's choice of an expert. A "pair" is a choice at its place after sorting by expert.
  struct ExpertChoice {
    int32_t expert;
    float weight;
  };

  /// The jobs on activations_.
  void run_gemms(std::span<const GemmTask> jobs);
  /// activations_ = norm(x), a batch's rows.
  void bind_normed(const backend::Norm& norm, const float* x,
                   std::span<const backend::Tensor> weights);
  /// x += post_norm(linear(activations_)), with room in `wide_`.
  void project_and_add(const backend::Linear& linear, const backend::Norm& post_norm, float* x);
  void route_topk(const float* router_logits, int64_t experts, int top_k);

  const backend::Batch* batch_ = nullptr;
  MaxShapes max_shapes_;
  backend::ActivationHook* hook_;
  kernels::AccumType accumulate_;
  Arena arena_;  ///< owns the buffers that are spans
  Activations activations_;
  std::span<float> normed_;                 ///< [rows, hidden]
  std::span<float> kv_proj_[2];             ///< [rows, widest]: k and v; projections
  std::span<float> router_logits_;          ///< [rows, experts]
  std::span<ExpertChoice> choices_;         ///< [rows, top_k], best first
  std::vector<int32_t> expert_offsets_;     ///< [experts + 1]: where an expert's pairs start below
  std::vector<int32_t> expert_cursors_;     ///< [experts]: filling positions while sorting
  std::span<int32_t> sorted_token_ids_;     ///< [rows * top_k] by expert: the row of x
  std::span<int32_t> identity_rows_;        ///< 0, 1, 2…: pairs read their own row of gate_
  std::span<int32_t> inverse_permutation_;  ///< [rows, top_k]: where a choice's pair lies
  std::span<float> gate_, up_;              ///< [mlp_rows, intermediate]
  std::span<float> down_;                   ///< [pairs, hidden]
  std::vector<int32_t> chosen_experts_;     ///< [rows, top_k], for the observer
  std::vector<GemmTask> tasks_;
  /// Adjacent rows of one sequence: attention's unit of work, with a KV head.
  struct QueryBlock {
    int64_t first, rows;
  };
  std::vector<QueryBlock> query_blocks_;
  std::span<float> split_states_;  ///< states of attention that wait to be merged
};

}  // namespace mxgpt::cpu
