// Shared by the CUDA backends: the stream, the current batch on the device, and the blocks that
// need no workspace.
#pragma once

#include <compare>
#include <type_traits>

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/profile.h"

namespace mxgpt::cuda {

/// Everything that determines the kernel launches of a step; key of the CUDA graph cache.
struct GraphKey {
  int rows = 0, logit_rows = 0, sequences = 0;
  int64_t max_seq_len_bucket = 0;  ///< exceeds every position; grids and page tables cover it

  /// Steps of one token per sequence repeat with the same shape.
  bool is_graphable() const {
    return rows == sequences && rows == logit_rows && rows <= kMaxGraphBatch;
  }
  static constexpr int kMaxGraphBatch = 64;
  auto operator<=>(const GraphKey&) const = default;
};

class Step {
 public:
  /// Allocates the device copy of a batch's metadata: metadata_length() integers.
  Step(const backend::MaxShapes& max_shapes, DeviceArena& arena);
  static int64_t metadata_length(const backend::MaxShapes& m) {
    return 4 * m.rows + backend::kKvGroups * m.sequences * m.pages();
  }

  /// Writes the batch's metadata to pinned memory. The stream must be idle. A graph captured with
  /// the same key reads this batch when it is replayed.
  void stage(const backend::Batch& batch);
  /// Enqueues the copy of the staged metadata to the device.
  void upload();

  /// Enqueues kernels, timed under `name` when profiling.
  template <class Params>
  void enqueue(const char* name, void (*launch)(const Params&, CudaStream),
               const std::type_identity_t<Params>& params) {
    const ScopedTimer timer(name, stream_.get());
    launch(params, stream_.get());
  }
  template <class Launch>
  void enqueue(const char* name, const Launch& launch) {
    const ScopedTimer timer(name, stream_.get());
    launch(stream_.get());
  }

  void embed(const backend::Embed& op);
  void rope_cos_sin(const backend::RopeCosSin& op);

  Stream& stream() { return stream_; }
  const GraphKey& key() const { return key_; }
  int rows() const { return key_.rows; }
  int logit_rows() const { return key_.logit_rows; }
  int64_t max_position() const { return key_.max_seq_len_bucket - 1; }

  // Device memory.
  const int32_t* tokens() const { return tokens_; }        ///< [rows]
  const int32_t* positions() const { return positions_; }  ///< [rows]
  const int32_t* slots() const {
    return slots_;
  }  ///< [rows]: index of the row's sequence in the batch
  const int32_t* logit_row_ids() const { return logit_row_ids_; }  ///< [logit_rows]
  /// [sequences, table_stride]: page of position / kPageTokens
  const int32_t* table(backend::KvGroup group) const { return tables_[static_cast<int>(group)]; }
  int64_t table_stride() const { return table_stride_; }

  /// Logit rows form the range [first_logit_row, first_logit_row + logit_rows).
  bool logit_rows_contiguous() const { return logit_rows_contiguous_; }
  int first_logit_row() const { return first_logit_row_; }

 private:
  backend::MaxShapes max_shapes_;
  Stream stream_;
  Memory pinned_;      ///< as metadata_
  int32_t* metadata_;  ///< all arrays of the batch, one after the other
  GraphKey key_;
  int64_t metadata_bytes_ = 0;
  int first_logit_row_ = 0;
  bool logit_rows_contiguous_ = true;
  int32_t *tokens_ = nullptr, *positions_ = nullptr, *slots_ = nullptr, *logit_row_ids_ = nullptr;
  int32_t* tables_[backend::kKvGroups] = {};
  int64_t table_stride_ = 0;
};

}  // namespace mxgpt::cuda
