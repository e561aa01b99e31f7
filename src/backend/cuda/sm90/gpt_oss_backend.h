// The gpt-oss backend for Hopper (sm_90). supports() in sm90/support.h has checked everything that
// it relies on; blocks have no fallback inside.
#pragma once

#include "backend/cuda/backend.h"
#include "backend/cuda/sm90/gemm.h"
#include "backend/cuda/sm90/workspace.h"

namespace mxgpt::cuda::sm90 {

/// Close to the generic backend, not bit-equal to it: activations are rounded to 16 bits or split
/// into two bfloat16, and steps of up to kMaxRows rows sum in another order than larger ones.
class Sm90GptOssBackend final : public CudaBackend {
 public:
  Sm90GptOssBackend(const BackendSpec& spec, DeviceArena& arena);

  Step& step() override { return step_; }

  /// Stages the batch and selects the kernels of the step.
  void begin_step(const backend::Batch& batch) override;
  void embed(const backend::Embed& op) override { step_.embed(op); }
  void rope_cos_sin(const backend::RopeCosSin& op) override { step_.rope_cos_sin(op); }
  /// Needs op.next_router: decode steps leave its partial logits for moe_block.
  void attention_block(const backend::AttentionBlock& op) override;
  /// gpt-oss has no dense MLP.
  void mlp_block(const backend::MlpBlock& op) override;
  void moe_block(const backend::MoeBlock& op) override;
  void lm_head(const backend::LmHead& op) override;

 private:
  enum class LinearKernel { gemv, gemm };
  enum class AttentionKernel { portable, decode, prefill };
  enum class MoeKernel { per_row, small_batch, gemm };
  /// The kernels of one step, a function of its size.
  struct Plan {
    LinearKernel qkv, o, lm_head;
    AttentionKernel attention;
    MoeKernel moe;
    bool permuted_dense, permuted_moe, permuted_lm_head;  ///< operand order of gemm()
  };
  Plan plan_step() const;

  void qkv_gemv(const backend::AttentionBlock& op);
  void qkv_gemm(const backend::AttentionBlock& op);
  void attention(const backend::AttentionBlock& op);
  void o_proj_gemv(const backend::AttentionBlock& op);
  void o_proj_gemm(const backend::AttentionBlock& op);
  void moe_gemv(const backend::MoeBlock& op);
  void moe_gemm(const backend::MoeBlock& op);
  /// bf16_activations = norm(x[row_ids])
  void norm_to_bf16(const backend::Norm& norm, const float* x, const int32_t* row_ids, int rows,
                    const backend::Tensor& weight, bool permuted, const RouterLogits& router = {});

  backend::MaxShapes max_shapes_;
  bool kv_is_16_bit_;      ///< the fused qkv kernel stores such a cache
  bool native_attention_;  ///< attn_decode and attn_prefill run this cache and head grouping
  Step step_;
  Workspace workspace_;
  Plan plan_ = {};
};

}  // namespace mxgpt::cuda::sm90
