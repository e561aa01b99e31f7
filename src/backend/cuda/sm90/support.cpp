#include "backend/cuda/sm90/support.h"

#include "backend/cuda/sm90/gemm.h"

namespace mxgpt::cuda::sm90 {

Support supports(const ModelTraits& m, const DeviceCaps& caps,
                 const std::optional<RunTraits>& run) {
  const auto name = [](quant::Format format) { return std::string(quant::traits(format).name); };
  if (!caps.has_sm90) return {"the GPU is not of compute capability 9.0"};
  if (m.experts == 0) return {"the model has no experts"};
  if (m.experts > kMaxExperts)
    return {"the model has " + std::to_string(m.experts) + " experts; the limit is " +
            std::to_string(kMaxExperts)};
  if (m.top_k > kMaxTopK)
    return {"the model uses " + std::to_string(m.top_k) + " experts per token; the limit is " +
            std::to_string(kMaxTopK)};
  if (m.head_dim != kHeadDim)
    return {"head_dim is " + std::to_string(m.head_dim) + "; it must be " +
            std::to_string(kHeadDim)};
  if (m.rope_style != backend::RopeStyle::neox) return {"RoPE pairs are interleaved"};
  if (m.activation != backend::ActivationKind::clamped_swiglu)
    return {"the activation is not the clamped SwiGLU of gpt-oss"};
  if (m.hidden % 4 != 0 || m.hidden > kMaxNormColumns)
    return {"hidden size " + std::to_string(m.hidden) + " is not a multiple of 4 up to " +
            std::to_string(kMaxNormColumns)};
  const int columns = gemm_columns(WeightType::mxfp4, static_cast<int>(m.intermediate));
  if (columns * sizeof(uint16_t) > m.intermediate * sizeof(float))
    return {"intermediate size " + std::to_string(m.intermediate) + " is too small"};
  for (const LayerFormats& layer : m.layers) {
    for (const quant::Format format : {layer.gate, layer.up, layer.down}) {
      if (format != quant::Format::mxfp4)
        return {"experts are " + name(format) + "; they must be mxfp4"};
    }
    if (layer.q != layer.k || layer.q != layer.v)
      return {"the formats of q, k and v differ within a layer"};
    for (const quant::Format format : {layer.q, layer.o}) {
      if (!can_repack(format))
        return {"attention projections are " + name(format) + "; they must be q8_0, mxfp4 or bf16"};
    }
  }
  if (!can_repack(m.lm_head))
    return {"the LM head is " + name(m.lm_head) + "; it must be q8_0, mxfp4 or bf16"};
  if (run && run->precision != backend::Precision::mixed) return {"the precision is exact"};
  if (run && run->accum_type != kernels::AccumType::f32) return {"linear layers accumulate in f16"};
  return {};
}

}  // namespace mxgpt::cuda::sm90
