// Qwen3 (Yang et al. 2025): Llama with a norm on every head of Q and K. Reference: transformers,
// models/qwen3/modeling_qwen3.py.
#include "model/arch/llama.h"
#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"qwen3"};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", &Layer::q, one, q, hidden, Role::dense},
    {"blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight", &Layer::q_norm, one, one, head_dim, Role::vector},
    {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", &Layer::k, one, kv, hidden, Role::dense},
    {"blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight", &Layer::k_norm, one, one, head_dim, Role::vector},
    {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", &Layer::v, one, kv, hidden, Role::dense},
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
extern const Architecture qwen3{
    .gguf = "qwen3",
    .model_types = kModelTypes,
    .tensors = kTensors,
    .config_from_gguf = [](const io::GgufMetadata& m) { return parse_common_config(m, "qwen3"); },
    .config_from_checkpoint = [](const json::Node& j) { return parse_common_config(j, "qwen3"); },
    .write_gguf_metadata = write_gguf_metadata,
    .forward = forward_llama};
}

}  // namespace mxgpt::model
