// Kernels and ops of a device as functions on host memory, so that checks need not know the device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/batch.h"
#include "backend/cpu/kernels.h"
#include "backend/ops.h"
#include "kernels/cpu/gemm.h"
#include "quant/format.h"

namespace mxgpt::backend {

/// Kernels of one instruction set or device. Kernels that a device has only as part of an op are
/// null.
struct KernelSet {
  std::string target;  ///< "cpu scalar"
  std::function<const kernels::GemmKernels&(quant::Format)> formats;
  const cpu::CpuKernels* ops;
};

/// Attention of the last row of one sequence, whose keys and values a device stores in its cache.
struct CachedAttention {
  quant::Format format;  ///< of the cache
  int heads, kv_heads, head_dim;
  float scale;
  int64_t last;                         ///< position of the row; positions 0 to last are cached
  int64_t window;                       ///< 0: none
  std::span<const float> q;             ///< [heads][head_dim]
  std::span<const float> keys, values;  ///< [last + 1][kv_heads][head_dim]
  std::span<const float> sinks;         ///< [heads]; empty: none
  int rows = 1;                         ///< size of the batch; all rows are equal
};

/// Ops that a device implements itself.
struct OpRunner {
  std::string target;
  std::function<void(const Batch&, const Embed&)> embed;
  std::function<void(const Batch&, const MoeBlock&)> experts;

  // Null if the device has no such kernels of its own.

  /// Rows `ids` of a table of encoded rows of k elements, dequantized.
  std::function<std::vector<float>(quant::Format format, std::span<const std::byte> table,
                                   int64_t k, std::span<const int32_t> ids)>
      lookup;
  /// {cos, sin} of positions · inv_freq, times `magnitude`; each [positions][inv_freq].
  std::function<std::pair<std::vector<float>, std::vector<float>>(
      std::span<const float> inv_freq, float magnitude, std::span<const int32_t> positions)>
      rope_cos_sin;
  /// [rows][heads][head_dim].
  std::function<std::vector<float>(const CachedAttention&)> attention;
};

}  // namespace mxgpt::backend
