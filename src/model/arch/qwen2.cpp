// Qwen2 (Yang et al. 2024): Llama with biases on Q, K and V. Reference: transformers,
// models/qwen2/modeling_qwen2.py.
#include "model/arch/llama.h"
#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"qwen2"};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", &Layer::q, one, q, hidden, Role::dense},
    {"blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", &Layer::q_bias, one, one, q, Role::vector},
    {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", &Layer::k, one, kv, hidden, Role::dense},
    {"blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", &Layer::k_bias, one, one, kv, Role::vector},
    {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", &Layer::v, one, kv, hidden, Role::dense},
    {"blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", &Layer::v_bias, one, one, kv, Role::vector},
    {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", &Layer::o, one, hidden, q, Role::dense},
    {"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", &Layer::mlp_norm, one, one, hidden, Role::vector},
    {"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", &Layer::gate, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", &Layer::up, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", &Layer::down, one, hidden, intermediate, Role::dense},
    {"output_norm.weight", "model.norm.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head, {.optional = true}},
};
// clang-format on

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  require_full_attention(c);
  require_activation(c, backend::ActivationKind::silu);
  write_common_metadata(c, out);
}

}  // namespace

namespace architectures {
extern const Architecture qwen2{
    .gguf = "qwen2",
    .model_types = kModelTypes,
    .tensors = kTensors,
    .config_from_gguf = [](const io::GgufMetadata& m) { return parse_common_config(m, "qwen2"); },
    .config_from_checkpoint = [](const json::Node& j) { return parse_common_config(j, "qwen2"); },
    .write_gguf_metadata = write_gguf_metadata,
    .forward = forward_llama};
}

}  // namespace mxgpt::model
