// The one decision whether the sm90 backend runs a model: asked when weights are loaded, because it
// reads a layout of its own, and when a runner is created.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/weight_repack.h"
#include "kernels/accum_type.h"

namespace mxgpt::cuda {

/// Weight formats of one layer with experts.
struct LayerFormats {
  quant::Format q, k, v, o, gate, up, down;
};

/// A model as the choice of a backend sees it.
struct ModelTraits {
  int64_t hidden = 0, intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  backend::RopeStyle rope_style = backend::RopeStyle::neox;
  backend::ActivationKind activation = backend::ActivationKind::silu;
  std::vector<LayerFormats> layers;  ///< empty for dense models
  quant::Format lm_head = quant::Format::f32;
};

/// Numerical options of a run.
struct RunTraits {
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;
  quant::Format kv_format = quant::Format::f16;
};

namespace sm90 {

/// Supported, or the reason why not.
struct Support {
  std::string reason;
  explicit operator bool() const { return reason.empty(); }
};

/// Whether the sm90 backend runs this model on this GPU. Without `run` the question is about the
/// weights alone: they are packed for any run if one can use them.
Support supports(const ModelTraits& model, const DeviceCaps& caps,
                 const std::optional<RunTraits>& run = std::nullopt);

}  // namespace sm90
}  // namespace mxgpt::cuda
