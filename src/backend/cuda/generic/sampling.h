// Drawing tokens on the GPU: the same tokens, to the bit, as engine/sampler.h draws from the same
// logits, so that only tokens cross the bus.
#pragma once

#include <cstdint>

#include "backend/cuda/generic/gemm.h"

namespace mxgpt::cuda {

/// What changes a logit before it is drawn from, in this order.
struct LogitEdit {
  int32_t token;
  float bias;        ///< added
  float repetition;  ///< divides it if it is positive, else multiplies it
  float penalty;     ///< subtracted
};

/// How one row's token is drawn.
struct RowSampling {
  float scale;    ///< 1 / temperature; 0: the likeliest token
  int32_t top_k;  ///< 0: all
  double top_p, min_p;
  double uniform;  ///< the random number, in [0, 1)
  int32_t first_edit, edits;
  int32_t mask;  ///< row of the masks; -1: all tokens are allowed
};

struct SampleArgs {
  float* logits;  ///< [rows, vocabulary], which edits and masks change
  int vocabulary;
  int rows;
  const RowSampling* params;  ///< [rows]
  const LogitEdit* edits;     ///< a token once in a row
  const uint32_t* masks;  ///< [.][(vocabulary + 31) / 32]: bit t % 32 of word t / 32 allows token t
  int32_t* tokens;        ///< [rows]; -1 where the logits are no numbers, or none is allowed
};
void sample(const SampleArgs&, CudaStream);

/// Tokens that there is room for: sums of their blocks lie in shared memory.
inline constexpr int kMaxSampledVocabulary = 1 << 18;

}  // namespace mxgpt::cuda
