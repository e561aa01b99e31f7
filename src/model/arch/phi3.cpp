// Phi-3 (Abdin et al. 2024): Llama with fused Q, K and V, and fused gate and up projections.
// Reference: transformers, models/phi3/modeling_phi3.py.
#include "model/arch/llama.h"
#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"phi3"};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_qkv.weight", "model.layers.{}.self_attn.qkv_proj.weight", &Layer::qkv, one, qkv, hidden, Role::dense},
    {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", &Layer::o, one, hidden, q, Role::dense},
    {"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", &Layer::mlp_norm, one, one, hidden, Role::vector},
    {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.gate_up_proj.weight", &Layer::gate_up, one, gate_up, hidden, Role::dense},
    {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", &Layer::down, one, hidden, intermediate, Role::dense},
    {"output_norm.weight", "model.norm.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head, {.optional = true}},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c = parse_common_config(j, "phi3");
  if (!j.find("layer_types")) c.is_sliding.assign(c.layers, c.window > 0);
  return c;
}

Config config_from_gguf(const io::GgufMetadata& m) {
  Config c = parse_common_config(m, "phi3");
  c.activation.kind = backend::ActivationKind::silu;
  c.is_sliding.assign(c.layers, c.window > 0);
  return c;
}

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  require_uniform_layers(c);
  require_activation(c, backend::ActivationKind::silu);
  write_common_metadata(c, out);
  // Other programs require this key even without scaling.
  if (c.rope_for(backend::KvGroup::full).yarn.factor == 1) {
    out.add<uint32_t>("phi3.rope.scaling.original_context_length",
                      static_cast<uint32_t>(c.context));
  }
}

}  // namespace

namespace architectures {
extern const Architecture phi3{.gguf = "phi3",
                               .model_types = kModelTypes,
                               .tensors = kTensors,
                               .config_from_gguf = config_from_gguf,
                               .config_from_checkpoint = config_from_checkpoint,
                               .write_gguf_metadata = write_gguf_metadata,
                               .forward = forward_llama};
}

}  // namespace mxgpt::model
