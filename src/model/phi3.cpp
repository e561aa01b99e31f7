// Phi-3 (Abdin et al. 2024): Llama with Q, K and V in one projection, and gate and up in one.
// Reference: transformers, models/phi3/modeling_phi3.py.
#include "model/architecture.h"
#include "model/common.h"
#include "model/llama.h"

namespace mxgpt {
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
    {"output_norm.weight", "model.norm.weight", &Weights::norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::head, one, vocabulary, hidden, Role::head, {.optional = true}},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c = common_config(j, "phi3");
  if (!j.find("layer_types")) c.sliding.assign(c.layers, c.window > 0);
  return c;
}

Config config_from_gguf(const GgufMetadata& m) {
  Config c = common_config(m, "phi3");
  c.activation.kind = ActivationKind::silu;
  c.sliding.assign(c.layers, c.window > 0);
  return c;
}

void describe(const Config& c, GgufWriter& out) {
  require_one_type_of_layers(c);
  require_activation(c, ActivationKind::silu);
  describe_common(c, out);
  // Other programs want it to be there, also where nothing is scaled.
  if (c.rope_of(KvGroup::full).yarn.factor == 1) {
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
                               .describe = describe,
                               .runner = llama_runner};
}

}  // namespace mxgpt
