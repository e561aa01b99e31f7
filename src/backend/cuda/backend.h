// The CUDA backend: the ops of backend/ops.h on one GPU. Weights, buffers and cache are its memory,
// `Batch` is the host's. Free of CUDA's headers, so that a model's forward is built for it like for
// the CPU.
#pragma once

#include <compare>
#include <initializer_list>
#include <memory>
#include <optional>
#include <type_traits>

#include "backend/cuda/profile.h"
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/gemm.h"
#include "backend/cuda/workspace.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

struct NormRows;

/// What the launches of a step follow from.
struct GraphKey {
  int rows = 0, logit_rows = 0, sequences = 0;
  int64_t max_seq_len_bucket = 0;  ///< more than any position: grids and tables have room up to it

  /// Steps of one token for each of some sequences come again and again.
  bool is_graphable() const {
    return rows == sequences && rows == logit_rows && rows <= kMaxGraphBatch;
  }
  static constexpr int kMaxGraphBatch = 64;
  auto operator<=>(const GraphKey&) const = default;
};

/// One per runner; a step at a time. All ops enqueue on its stream.
class GenericBackend {
 public:
  /// Takes its buffers from `room`. With `fast`, the kernels of fast/ are used for what they know:
  /// close to the others' results, with other kernels, and bits, for steps of one row than for
  /// those of many.
  GenericBackend(const MaxShapes& limits, DeviceArena& room,
                 kernels::AccumType accumulate = kernels::AccumType::f32, bool fast = false);
  ~GenericBackend();

  /// Makes `batch` the one that a step reads, also a recorded step of this shape. What the stream
  /// had to do before must be done.
  const GraphKey& stage_batch(const backend::Batch& batch);
  /// Places the batch that the ops refer to until the next call, and enqueues its copy to the GPU.
  void begin(const backend::Batch& batch);

  void embed(const backend::Embed& op);
  void rotations(const backend::RopeCosSin& op);
  void norm_qkv_rope_store(const backend::NormQkvRopeStore& op);
  void attend(const backend::Attend& op);
  void project_residual(const backend::ProjectResidual& op);
  void norm_mlp_residual(const backend::NormMlpResidual& op);
  void norm_route_experts_residual(const backend::NormRouteExpertsResidual& op);
  void norm_logits(const backend::NormLogits& op);

  Stream& stream();

 private:
  struct Host;  ///< stream and pinned memory

  /// What a layer of experts reads and writes in all; 0: as many rows as the tile has tokens.
  struct GroupedGemmShape {
    int64_t x_rows;
    int tokens;
  };
  /// Rows of x as fast::gemm reads them against such a weight; what was rounded last is kept.
  const uint16_t* to_bf16(const float* x, int64_t rows, const backend::Tensor& weight,
                          bool shuffled);
  bool can_norm_to_bf16(const backend::Norm& norm) const;
  /// The same of normed rows, from p.x; p.out is not written.
  const uint16_t* norm_to_bf16(const NormRows& p, const backend::Tensor& weight, bool shuffled,
                               const sm90::RouterLogits& router = {});
  /// The one place where a linear layer is launched.
  void enqueue_linear(const backend::Linear& linear, backend::GemmParams tile,
                      const GroupedGemmShape& grouped = {});
  /// Whether a step of so many rows and these weights are for the kernels of decode.
  bool can_use_sm90(int64_t rows, std::initializer_list<const backend::Tensor*> weights) const;
  /// Launches kernels, timed under a name if a profile was asked for.
  template <class Params>
  void enqueue(const char* name, void (*launch)(const Params&, backend::CudaStream),
               const std::type_identity_t<Params>& params);
  template <class Launch>
  void enqueue(const char* name, const Launch& launch);
  /// A projection that waits for the router behind it.
  void flush();
  sm90::KvPages pages(const backend::KvLayer& kv) const;
  void project_and_add(const backend::Linear& linear, const backend::Norm& post_norm,
                       const float* in, float* x);

  MaxShapes max_shapes_;
  kernels::AccumType accumulate_;
  std::unique_ptr<Host> host_;
  GraphKey graph_key_;
  int rows_ = 0, logit_rows_count_ = 0;  ///< as in shape_
  int64_t batch_bytes_ = 0;              ///< of batch_, a function of shape_

  Workspace workspace_;
  int first_logit_row_ = 0;            ///< of the batch's rows whose logits are wanted
  bool logit_rows_contiguous_ = true;  ///< they are adjacent
  // Of the batch, in own_.batch:
  int32_t* tokens_;     ///< [rows]
  int32_t* positions_;  ///< [rows]
  int32_t* slots_;      ///< [rows]: the row's sequence among those of the batch
  int32_t* logit_rows_;
  int32_t* tables_[backend::kKvGroups];  ///< [sequences of the batch, stride_]
  int64_t stride_ = 0;

  bool sm90_;
  std::optional<backend::ProjectResidual> pending_;
  struct Bf16Source {
    const float* x = nullptr;
    int columns = 0;
    bool shuffled = false;
    bool operator==(const Bf16Source&) const = default;
  };
  Bf16Source bf16_of_;  ///< what own_.narrow holds
};

}  // namespace mxgpt::cuda
