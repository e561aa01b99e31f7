// The CUDA backend: the ops of backend/ops.h on one GPU. Weights, buffers and cache are its memory,
// `Batch` is the host's. Free of CUDA's headers, so that a model's forward is built for it like for
// the CPU.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>

#include "backend/cuda/device.h"
#include "backend/cuda/fast/decode.h"
#include "backend/cuda/fast/gemm.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

/// The most a step of one model asks for.
struct Limits {
  int64_t rows = 0;                       ///< of a batch
  int64_t sequences = 0;                  ///< of a batch
  int64_t context = 0;                    ///< of a sequence
  int64_t vocabulary = 0, positions = 0;  ///< tokens and learned positions there are; 0: any
  int64_t hidden = 0;
  int64_t widest = 0;  ///< longest row that a linear outside the MLP reads or, but for the head,
                       ///< writes
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models
  int64_t heads = 0, head_dim = 0;

  /// Rows of an MLP's inner activations: a row of the batch has one for each expert it chose.
  int64_t mlp_rows() const { return rows * (experts ? top_k : 1); }
  int64_t pages() const { return (context + kPageTokens - 1) / kPageTokens; }  ///< of a sequence
};

/// What a row of the batch chose, and the choices sorted by expert: a "pair" is a choice at its
/// place there.
struct Routing {
  int32_t* expert;          ///< [rows, top_k], best first
  float* weight;            ///< [rows, top_k]
  int32_t* begin;           ///< [experts + 1]: where an expert's pairs start
  int32_t* pair_row;        ///< [pairs]: the row of x
  int32_t* pair_of_choice;  ///< [rows, top_k]
};

/// Attention over pieces of the cache at fixed positions, so that a row is summed in one order
/// however many blocks share the work: the parts that several of them leave.
struct AttendParts {
  float* most;           ///< [rows, heads, pieces] largest score
  float* total;          ///< [rows, heads, pieces] Σ exp(score - most)
  float* out;            ///< [rows, heads, pieces, head_dim] Σ exp(score - most) · value
  int64_t capacity = 0;  ///< rows × heads × pieces that there is room for
};

/// One per runner; a step at a time. All ops enqueue on its stream.
class Backend {
 public:
  /// Takes its buffers from `room`, which may only count; then it can do nothing else.
  /// With `fast`, the kernels of fast/ are used for what they know: close to the others' results,
  /// with other kernels, and bits, for steps of one row than for those of many.
  Backend(const Limits& limits, Room& room, Accumulate accumulate = Accumulate::f32,
          bool fast = false);
  ~Backend();

  /// The batch that the ops refer to until the next call; copied, on its way when this returns.
  /// What the stream had to do before must be done.
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
  /// The one place where a linear layer is launched.
  void linear(const Linear& linear, DeviceTile tile, const Grouped& grouped = {});
  /// Whether this step and these weights are for fast/.
  bool is_fast(std::initializer_list<const Tensor*> weights) const;
  /// A projection that waits for the router behind it.
  void flush();
  fast::KvPages pages(const KvLayer& kv) const;
  void add_projected(const Linear& linear, const Norm& post_norm, const float* in, float* x);

  Limits limits_;
  Accumulate accumulate_;
  std::unique_ptr<Host> host_;
  int rows_ = 0, wanted_ = 0;
  int sequences_ = 0;
  int64_t last_position_ = 0;  ///< largest of the batch

  int32_t* batch_;      ///< what follows, as one array
  int32_t* tokens_;     ///< [rows]
  int32_t* positions_;  ///< [rows]
  int32_t* slots_;      ///< [rows]: the row's sequence among those of the batch
  int32_t* logit_rows_;
  int32_t* tables_[kKvGroups];  ///< [sequences of the batch, stride_]
  int64_t stride_ = 0;
  float* normed_;              ///< [rows, hidden]
  float* wide_[2];             ///< [rows, widest]: k and v; projections
  float *gate_, *up_, *down_;  ///< [mlp_rows, intermediate] twice, [mlp_rows, hidden]
  float* router_logits_;       ///< [rows, experts]
  Routing routing_;
  AttendParts parts_;

  bool fast_;
  std::optional<ProjectResidual> pending_;
  uint16_t* narrow_ = nullptr;      ///< activations as fast::gemm reads them
  const float* rounded_ = nullptr;  ///< what narrow_ holds
  int rounded_columns_ = 0;
  int piece_pages_ = 8;              ///< of fast::attend
  float* router_parts_ = nullptr;    ///< as of fast::router_part_floats
  uint8_t* activated_ = nullptr;     ///< fast::activated_bytes
  float* attend_scratch_ = nullptr;  ///< fast::attend_scratch_floats
  int32_t* arrived_ = nullptr;       ///< [heads], zero between ops
};

}  // namespace mxgpt::cuda
