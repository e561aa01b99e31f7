// Configuration fields that decoders share, in config.json and GGUF metadata, and views of fused
// projections.
#pragma once

#include <string_view>

#include "base/json.h"
#include "io/gguf_metadata.h"
#include "io/gguf_writer.h"
#include "model/config.h"
#include "model/tensor_table.h"

namespace mxgpt::model {

/// Reads sizes, RMS norm, activation, rotary embedding, window and layer types by their names in
/// transformers. `architecture` is the GGUF name. Throws Error for unsupported values.
Config parse_common_config(const json::Node& config, std::string_view architecture);
/// Reads the same from GGUF metadata. Sets `window`, but marks no layer as sliding.
Config parse_common_config(const io::GgufMetadata& metadata, std::string_view architecture);
/// Writes the metadata that parse_common_config() reads.
void write_common_metadata(const Config& config, io::GgufWriter& out);

/// Reads base and scaling of RoPE from `parameters`; "rope_theta" may be in `config` instead.
RopeConfig parse_rope_config(const json::Node& parameters, const json::Node& config,
                             int64_t head_dim);

/// Parses an activation name used by Hugging Face transformers ("silu", "gelu_new", …).
backend::ActivationKind parse_activation(const json::Node& name);

/// Throw Error for a model that GGUF metadata of its architecture cannot represent.
void require_representable(bool representable, std::string_view field,
                           std::string_view requirement);
void require_uniform_layers(const Config& config);
void require_full_attention(const Config& config);
void require_activation(const Config& config, backend::ActivationKind kind);

/// Q, K and V, from fused or separate tensors.
struct QkvProjections {
  backend::Linear q, k, v;
};
QkvProjections qkv_projections(const Layer& layer, const Config& config);

/// Gate and up of a dense MLP, from fused or separate tensors.
struct GateUpProjections {
  backend::Linear gate, up;
};
GateUpProjections gate_up_projections(const Layer& layer, const Config& config);

/// Config::attention_scale, or its default.
float attention_scale(const Config& config);

}  // namespace mxgpt::model
