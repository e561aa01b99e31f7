// Sampling on the GPU, bit-identical to engine/sampler.h on the same logits, so that only tokens
// are copied to the host.
#pragma once

#include <cstdint>

#include "backend/cuda/generic/gemm.h"
#include "backend/sampling.h"

namespace mxgpt::cuda {

/// Changes to a logit before sampling, applied in this order.
struct LogitEdit {
  int32_t token;
  float bias;        ///< added
  float repetition;  ///< divides it if it is positive, else multiplies it
  float penalty;     ///< subtracted
};

/// Sampling parameters of one row.
struct RowSampling {
  float scale;    ///< 1 / temperature; 0: greedy
  int32_t top_k;  ///< 0: all
  double top_p, min_p;
  double uniform;  ///< uniform random number in [0, 1)
  int32_t first_edit, edits;
  int32_t mask;  ///< row of the masks; -1: all tokens are allowed
};

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
