// Parameters of sampling on a device, where only token ids return to the host.
#pragma once

#include <cstdint>

namespace mxgpt::backend {

/// A change to one logit before sampling; the members apply in this order.
struct LogitEdit {
  int32_t token;
  float bias;        ///< added
  float repetition;  ///< divides a positive logit, multiplies others
  float penalty;     ///< subtracted
};

/// How the token of one row is sampled.
struct RowSampling {
  float scale;    ///< 1 / temperature; 0: greedy
  int32_t top_k;  ///< 0: all tokens
  double top_p, min_p;
  double uniform;             ///< random number in [0, 1)
  int32_t first_edit, edits;  ///< range of the step's LogitEdits; a token occurs once per row
  int32_t mask;               ///< row of the token masks; -1: all tokens are allowed
};

}  // namespace mxgpt::backend
