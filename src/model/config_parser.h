// What decoders have in common: their configuration in config.json and in GGUF metadata, and the
// views of fused projections.
#pragma once

#include <string_view>

#include "base/json.h"
#include "io/gguf_metadata.h"
#include "io/gguf_writer.h"
#include "model/config.h"
#include "model/tensor_table.h"

namespace mxgpt::model {

/// Sizes, RMS norm, activation, rotary embedding, window and layer types under the names that
/// transformers gives them; `architecture` is the GGUF name. Throws Error for what mxgpt does not
/// know.
Config parse_common_config(const json::Node& config, std::string_view architecture);
/// The same from GGUF metadata; no layer slides yet, though `window` is read.
Config parse_common_config(const io::GgufMetadata& metadata, std::string_view architecture);
/// Writes what the other reads.
void write_common_metadata(const Config& config, io::GgufWriter& out);

/// RoPE's base and scaling from `parameters` ("rope_theta" may stand in `config` instead).
RopeConfig parse_rope_config(const json::Node& parameters, const json::Node& config,
                             int64_t head_dim);

/// By the name of transformers ("silu", "gelu_new", …).
backend::ActivationKind parse_activation(const json::Node& name);

/// Throws Error for a model that no GGUF file of its architecture can describe.
void require_representable(bool representable, std::string_view field,
                           std::string_view requirement);
void require_uniform_layers(const Config& config);
void require_full_attention(const Config& config);
void require_activation(const Config& config, backend::ActivationKind kind);

/// Q, K and V, fused or not.
struct QkvProjections {
  backend::Linear q, k, v;
};
QkvProjections qkv_projections(const Layer& layer, const Config& config);

/// Gate and up of a dense MLP, fused or not.
struct GateUpProjections {
  backend::Linear gate, up;
};
GateUpProjections gate_up_projections(const Layer& layer, const Config& config);

/// Config::attention_scale, or its default.
float attention_scale(const Config& config);

}  // namespace mxgpt::model
