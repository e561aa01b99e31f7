// Llama (Touvron et al. 2023; Llama 3, 2024) and Mistral (Jiang et al. 2023), whose layers slide
// where its configuration says so. References: transformers, models/llama/modeling_llama.py and
// models/mistral/modeling_mistral.py.
#include "model/llama.h"

#include "model/architecture.h"
#include "model/common.h"
#include "model/forward_runner.h"

namespace mxgpt {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"llama", "mistral"};
constexpr FileLayout kOptional{.optional = true};
constexpr FileLayout kHalves{.rope_halves = true};
constexpr FileLayout kOptionalHalves{.optional = true, .rope_halves = true};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"rope_freqs.weight", "", &Weights::rope_divisors, one, one, half_head, Role::vector, kOptional},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", &Layer::q, one, q, hidden, Role::dense, kHalves},
    {"blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", &Layer::q_bias, one, one, q, Role::vector, kOptionalHalves},
    {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", &Layer::k, one, kv, hidden, Role::dense, kHalves},
    {"blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", &Layer::k_bias, one, one, kv, Role::vector, kOptionalHalves},
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
    {"output_norm.weight", "model.norm.weight", &Weights::norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::head, one, vocabulary, hidden, Role::head, kOptional},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c = common_config(j, "llama");
  c.rope_pairs = RopePairs::neighbours;
  if (j["model_type"].string() == "mistral" && !j.find("layer_types"))
    c.sliding.assign(c.layers, c.window > 0);
  return c;
}

Config config_from_gguf(const GgufMetadata& m) {
  Config c = common_config(m, "llama");
  c.rope_pairs = RopePairs::neighbours;
  // Our own key: files made elsewhere say nothing of Mistral's window.
  c.sliding.assign(c.layers, c.window > 0);
  return c;
}

void describe(const Config& c, GgufWriter& out) {
  require_one_type_of_layers(c);
  require_activation(c, ActivationKind::silu);
  describe_common(c, out);
}

/// The whole model. `b` is a backend, `s` its memory (model/step_memory.h).
template <class Backend, class Memory>
void forward(Backend& b, const Config& c, const Weights& w, Memory& s, const Batch& batch) {
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const int head_dim = static_cast<int>(c.head_dim);
  const auto norm = [&](const Tensor& weight) {
    return Norm{.weight = weight, .eps = static_cast<float>(c.norm_eps)};
  };

  b.begin(batch);
  b.embed({.table = w.embedding, .scale = static_cast<float>(c.embedding_scale), .x = s.x});
  for (const Rotary& r : s.rotaries)
    b.rotations({.rope = r.rope, .head_dim = head_dim, .cos = r.cos, .sin = r.sin});
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = w.layers[i];
    const auto [q, k, v] = projections(layer, c);
    const auto [gate, up] = gate_and_up(layer, c);
    const Rotary& rotary = s.rotary(c.group(i));
    b.norm_qkv_rope_store({.x = s.x,
                           .norm = norm(layer.attn_norm),
                           .q = q,
                           .k = k,
                           .v = v,
                           .q_norm = norm(layer.q_norm),
                           .k_norm = norm(layer.k_norm),
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .head_dim = head_dim,
                           .pairs = c.rope_pairs,
                           .cos = rotary.cos,
                           .sin = rotary.sin,
                           .kv = s.kv[i],
                           .q_out = s.q});
    b.attend({.q = s.q,
              .heads = heads,
              .kv_heads = kv_heads,
              .head_dim = head_dim,
              .scale = attention_scale(c),
              .kv = s.kv[i],
              .window = c.sliding[i] ? c.window : 0,
              .out = s.attended});
    b.project_residual({.in = s.attended,
                        .linear = {layer.o, layer.o_bias},
                        .post_norm = norm(layer.attn_post_norm),
                        .x = s.x});
    b.norm_mlp_residual({.norm = norm(layer.mlp_norm),
                         .gate = gate,
                         .up = up,
                         .down = {layer.down, layer.down_bias},
                         .activation = c.activation,
                         .post_norm = norm(layer.mlp_post_norm),
                         .x = s.x});
  }
  b.norm_logits(
      {.x = s.x, .norm = norm(w.norm), .head = {w.head_or_embedding(), {}}, .logits = s.logits});
}

}  // namespace

std::unique_ptr<Runner> llama_runner(const Config& c, const Weights& w,
                                     const RunnerOptions& options) {
  return make_runner(c, w, options, [](auto&... args) { forward(args...); });
}

namespace architectures {
extern const Architecture llama{.gguf = "llama",
                                .model_types = kModelTypes,
                                .tensors = kTensors,
                                .config_from_gguf = config_from_gguf,
                                .config_from_checkpoint = config_from_checkpoint,
                                .describe = describe,
                                .runner = llama_runner};
}

}  // namespace mxgpt
