// The portable CUDA backend: any architecture and weight format, on any supported GPU. It is also
// the reference that the sm90 kernels are compared with.
#pragma once

#include "backend/cuda/backend.h"
#include "backend/cuda/generic/workspace.h"

namespace mxgpt::cuda {

class GenericBackend final : public CudaBackend {
 public:
  /// Takes its buffers from `arena`. Linear layers accumulate in `accum_type`.
  GenericBackend(const backend::MaxShapes& max_shapes, DeviceArena& arena,
                 kernels::AccumType accum_type);

  Step& step() override { return step_; }

  void begin_step(const backend::Batch& batch) override { step_.stage(batch); }
  void embed(const backend::Embed& op) override { step_.embed(op); }
  void rope_cos_sin(const backend::RopeCosSin& op) override { step_.rope_cos_sin(op); }
  void attention_block(const backend::AttentionBlock& op) override;
  void mlp_block(const backend::MlpBlock& op) override;
  void moe_block(const backend::MoeBlock& op) override;
  void lm_head(const backend::LmHead& op) override;

 private:
  void norm(const backend::Norm& norm, const float* x);
  void linear(const backend::Linear& linear, GemmParams params);
  /// x += post_norm(linear(in))
  void project_and_add(const backend::Linear& linear, const backend::Norm& post_norm,
                       const float* in, float* x);

  Step step_;
  GenericWorkspace workspace_;
  kernels::AccumType accum_type_;
};

}  // namespace mxgpt::cuda
