// Sampling on the GPU, bit-identical to engine/sampler.h on the same logits, so that only tokens
// are copied to the host.
#pragma once

#include <cstdint>

#include "backend/cuda/generic/gemm.h"
#include "backend/sampling.h"

namespace mxgpt::cuda {

using backend::LogitEdit;
using backend::RowSampling;

struct SampleArgs {
  float* logits;  ///< [rows, vocabulary]; modified by edits and masks
  int vocabulary;
  int rows;
  const RowSampling* params;  ///< [rows]
  const LogitEdit* edits;     ///< at most one per token and row
  const uint32_t* masks;  ///< [.][(vocabulary + 31) / 32]: bit t % 32 of word t / 32 allows token t
  int32_t* tokens;        ///< [rows]; -1 if a logit is NaN or no token is allowed
};
void sample(const SampleArgs&, CudaStream);

/// Largest vocabulary; the sums of its blocks are in shared memory.
inline constexpr int kMaxSampledVocabulary = 1 << 18;

}  // namespace mxgpt::cuda
