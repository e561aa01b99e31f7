// Llama (Touvron et al. 2023; Llama 3, 2024) and Mistral (Jiang et al. 2023), optionally with
// sliding-window layers. References: transformers, models/llama/modeling_llama.py and
// models/mistral/modeling_mistral.py.
#include "model/arch/llama.h"

#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"llama", "mistral"};
constexpr FileLayout kOptional{.optional = true};
constexpr FileLayout kPermuteRope{.permute_rope = true};
constexpr FileLayout kOptionalPermuteRope{.optional = true, .permute_rope = true};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"rope_freqs.weight", "", &Weights::rope_freq_factors, one, one, half_head_dim, Role::vector, kOptional},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", &Layer::q, one, q, hidden, Role::dense, kPermuteRope},
    {"blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", &Layer::q_bias, one, one, q, Role::vector, kOptionalPermuteRope},
    {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", &Layer::k, one, kv, hidden, Role::dense, kPermuteRope},
    {"blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", &Layer::k_bias, one, one, kv, Role::vector, kOptionalPermuteRope},
    {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", &Layer::v, one, kv, hidden, Role::dense},
    {"blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", &Layer::v_bias, one, one, kv, Role::vector, kOptional},
    {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", &Layer::o, one, hidden, q, Role::dense},
    {"blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias", &Layer::o_bias, one, one, hidden, Role::vector, kOptional},
    {"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", &Layer::mlp_norm, one, one, hidden, Role::vector},
    {"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", &Layer::gate, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias", &Layer::gate_bias, one, one, intermediate, Role::vector, kOptional},
    {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", &Layer::up, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias", &Layer::up_bias, one, one, intermediate, Role::vector, kOptional},
    {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", &Layer::down, one, hidden, intermediate, Role::dense},
    {"blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias", &Layer::down_bias, one, one, hidden, Role::vector, kOptional},
    {"output_norm.weight", "model.norm.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head, kOptional},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c = parse_common_config(j, "llama");
  c.rope_style = backend::RopeStyle::interleaved;
  if (j["model_type"].string() == "mistral" && !j.find("layer_types"))
    c.is_sliding.assign(c.layers, c.window > 0);
  return c;
}

Config config_from_gguf(const io::GgufMetadata& m) {
  Config c = parse_common_config(m, "llama");
  c.rope_style = backend::RopeStyle::interleaved;
  // mxgpt's own key: files of other programs do not store Mistral's window.
  c.is_sliding.assign(c.layers, c.window > 0);
  return c;
}

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  require_uniform_layers(c);
  require_activation(c, backend::ActivationKind::silu);
  write_common_metadata(c, out);
}

}  // namespace

void forward_llama(backend::Backend& b, const Config& c, const Weights& w, const RunState& s) {
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const int head_dim = static_cast<int>(c.head_dim);
  const auto norm = [&](const backend::Tensor& weight) {
    return backend::Norm{.weight = weight, .eps = static_cast<float>(c.norm_eps)};
  };

  b.embed({.table = w.embedding, .scale = static_cast<float>(c.embedding_scale), .x = s.x});
  for (const RopeCache& r : s.rope_caches)
    b.rope_cos_sin({.rope = r.rope, .head_dim = head_dim, .cos = r.cos, .sin = r.sin});
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = w.layers[i];
    const auto [q, k, v] = qkv_projections(layer, c);
    const auto [gate, up] = gate_up_projections(layer, c);
    const RopeCache& rope_cache = s.rope_cache(c.kv_group(i));
    // x += post_norm(o(attention(rope(qkv(norm(x))))))
    b.attention_block({.x = s.x,
                       .norm = norm(layer.attn_norm),
                       .q = q,
                       .k = k,
                       .v = v,
                       .q_norm = norm(layer.q_norm),
                       .k_norm = norm(layer.k_norm),
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .rope_style = c.rope_style,
                       .cos = rope_cache.cos,
                       .sin = rope_cache.sin,
                       .scale = attention_scale(c),
                       .window = c.is_sliding[i] ? c.window : 0,
                       .kv = s.kv[i],
                       .o = {layer.o, layer.o_bias},
                       .post_norm = norm(layer.attn_post_norm)});
    // x += post_norm(down(act(gate(h), up(h)))) with h = norm(x)
    b.mlp_block({.norm = norm(layer.mlp_norm),
                 .gate = gate,
                 .up = up,
                 .down = {layer.down, layer.down_bias},
                 .activation = c.activation,
                 .post_norm = norm(layer.mlp_post_norm),
                 .x = s.x});
  }
  b.lm_head({.x = s.x,
             .norm = norm(w.final_norm),
             .linear = {w.lm_head_or_embedding(), {}},
             .logits = s.logits});
}

namespace architectures {
extern const Architecture llama{.gguf = "llama",
                                .model_types = kModelTypes,
                                .tensors = kTensors,
                                .config_from_gguf = config_from_gguf,
                                .config_from_checkpoint = config_from_checkpoint,
                                .write_gguf_metadata = write_gguf_metadata,
                                .forward = forward_llama};
}

}  // namespace mxgpt::model
