// The CUDA backend: the ops of backend/ops.h on one GPU. Weights, buffers and cache are its memory,
// `Batch` is the host's. Free of CUDA's headers, so that a model's forward is built for it like for
// the CPU.
#pragma once

#include <compare>
#include <initializer_list>
#include <memory>
#include <optional>
#include <type_traits>

#include "backend/cuda/fast/decode.h"
#include "backend/cuda/fast/gemm.h"
#include "backend/cuda/profile.h"
#include "backend/cuda/workspace.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

struct NormRows;

/// What the launches of a step follow from.
struct Shape {
  int rows = 0, logit_rows = 0, sequences = 0;
  int64_t reach = 0;  ///< more than any position: grids and tables have room up to it

  /// Steps of one token for each of some sequences come again and again.
  bool recurs() const {
    return rows == sequences && rows == logit_rows && rows <= kMostRecordedRows;
  }
  static constexpr int kMostRecordedRows = 64;
  auto operator<=>(const Shape&) const = default;
};

/// One per runner; a step at a time. All ops enqueue on its stream.
class Backend {
 public:
  /// Takes its buffers from `room`. With `fast`, the kernels of fast/ are used for what they know:
  /// close to the others' results, with other kernels, and bits, for steps of one row than for
  /// those of many.
  Backend(const Limits& limits, Room& room, Accumulate accumulate = Accumulate::f32,
          bool fast = false);
  ~Backend();

  /// Makes `batch` the one that a step reads, also a recorded step of this shape. What the stream
  /// had to do before must be done.
  const Shape& place(const Batch& batch);
  /// Places the batch that the ops refer to until the next call, and enqueues its copy to the GPU.
  void begin(const Batch& batch);

  void embed(const Embed& op);
  void rotations(const Rotations& op);
  void norm_qkv_rope_store(const NormQkvRopeStore& op);
  void attend(const Attend& op);
  void project_residual(const ProjectResidual& op);
  void norm_mlp_residual(const NormMlpResidual& op);
  void norm_route_experts_residual(const NormRouteExpertsResidual& op);
  void norm_logits(const NormLogits& op);

  Stream& stream();

 private:
  struct Host;  ///< stream and pinned memory

  /// What a layer of experts reads and writes in all; 0: as many rows as the tile has tokens.
  struct Grouped {
    int64_t x_rows;
    int tokens;
  };
  /// Rows of x as fast::gemm reads them against such a weight; what was rounded last is kept.
  const uint16_t* rounded(const float* x, int64_t rows, const Tensor& weight, bool shuffled);
  bool can_norm_round(const Norm& norm) const;
  /// The same of normed rows, from p.x; p.out is not written.
  const uint16_t* norm_round(const NormRows& p, const Tensor& weight, bool shuffled,
                             const fast::Scores& router = {});
  /// The one place where a linear layer is launched.
  void linear(const Linear& linear, DeviceTile tile, const Grouped& grouped = {});
  /// Whether a step of so many rows and these weights are for the kernels of decode.
  bool is_fast(int64_t rows, std::initializer_list<const Tensor*> weights) const;
  /// Launches kernels, timed under a name if a profile was asked for.
  template <class Params>
  void enqueue(const char* name, void (*launch)(const Params&, DeviceStream),
               const std::type_identity_t<Params>& params);
  template <class Launch>
  void enqueue(const char* name, const Launch& launch);
  /// A projection that waits for the router behind it.
  void flush();
  fast::KvPages pages(const KvLayer& kv) const;
  void add_projected(const Linear& linear, const Norm& post_norm, const float* in, float* x);

  Limits limits_;
  Accumulate accumulate_;
  std::unique_ptr<Host> host_;
  Shape shape_;
  int rows_ = 0, wanted_ = 0;  ///< as in shape_
  int64_t batch_bytes_ = 0;    ///< of batch_, a function of shape_

  Workspace own_;
  int first_wanted_ = 0;   ///< of the batch's rows whose logits are wanted
  bool wants_run_ = true;  ///< they are adjacent
  // Of the batch, in own_.batch:
  int32_t* tokens_;     ///< [rows]
  int32_t* positions_;  ///< [rows]
  int32_t* slots_;      ///< [rows]: the row's sequence among those of the batch
  int32_t* logit_rows_;
  int32_t* tables_[kKvGroups];  ///< [sequences of the batch, stride_]
  int64_t stride_ = 0;

  bool fast_;
  std::optional<ProjectResidual> pending_;
  struct Rounded {
    const float* x = nullptr;
    int columns = 0;
    bool shuffled = false;
    bool operator==(const Rounded&) const = default;
  };
  Rounded rounded_;  ///< what own_.narrow holds
};

}  // namespace mxgpt::cuda
