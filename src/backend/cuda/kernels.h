// The CUDA backend's kernels besides those of formats/device.h, launched. Each takes one plain
// struct; pointers are to the GPU's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/backend.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

/// out[i] = norm(x[ids[i]]), or added to what out holds.
struct NormRows {
  Norm norm;
  const float* x;                ///< [.][n]
  const int32_t* ids = nullptr;  ///< [rows]; null: 0, 1, 2…
  int rows;
  float* out;  ///< [rows][n]
  bool add = false;
};
void norm_rows(const NormRows&, DeviceStream);

struct Angles {
  const float* inverse_frequency;  ///< [half]
  float magnitude;
  int half;
  const int32_t* positions;  ///< [rows]
  int rows;
  float *cos, *sin;  ///< [rows, half]
};
void angles(const Angles&, DeviceStream);

/// After the projections: every head of q and k normed and rotated, k and v stored.
struct FinishHeads {
  float *q, *k, *v;  ///< [rows, heads or kv_heads, head_dim]
  Norm q_norm, k_norm;
  int rows, heads, kv_heads, head_dim;
  RopePairs pairs;
  const float *cos, *sin;  ///< [rows, head_dim / 2], or null
  KvLayer kv;
  const int32_t *positions, *slots;  ///< [rows]
  const int32_t* table;              ///< [slots, stride]
  int64_t stride;
};
void finish_heads(const FinishHeads&, DeviceStream);

struct AttendRows {
  Attend op;
  int rows;
  const int32_t *positions, *slots;  ///< [rows]
  const int32_t* table;              ///< [slots, stride]
  int64_t stride;
  AttendParts parts;
};
/// Positions a piece has; a piece begins at a multiple.
inline constexpr int kPiecePositions = 256;
inline constexpr int kMaxHeadDim = 512;
/// `last` is the largest position of a row.
void attend_rows(const AttendRows&, int64_t last, DeviceStream);

/// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
void activate(const Activation& activation, float* gate, const float* up, int64_t n, DeviceStream);

/// Routing of rows by their router's logits [rows, experts].
void route(const float* logits, int rows, int experts, int top_k, const Routing&, DeviceStream);

/// x[row] += Σ weight · down[pair], in the order of the choices.
void combine_experts(const Routing&, int rows, int top_k, const float* down, int hidden, float* x,
                     DeviceStream);

}  // namespace mxgpt::cuda
