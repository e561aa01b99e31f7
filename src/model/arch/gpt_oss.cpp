// gpt-oss (OpenAI 2025): RMSNorm, grouped-query attention with sinks that alternates between
// sliding-window and full layers, YaRN rotary embedding, and a mixture of experts with clamped
// SwiGLU. Reference: openai/gpt-oss, gpt_oss/torch/model.py; transformers,
// models/gpt_oss/modeling_gpt_oss.py.
#include <fmt/format.h>

#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"gpt_oss"};

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
    {"blk.{}.attn_sinks.weight", "model.layers.{}.self_attn.sinks", &Layer::sinks, one, one, heads, Role::vector},
    {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", &Layer::o, one, hidden, q, Role::dense},
    {"blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias", &Layer::o_bias, one, one, hidden, Role::vector},
    {"blk.{}.post_attention_norm.weight", "model.layers.{}.post_attention_layernorm.weight", &Layer::mlp_norm, one, one, hidden, Role::vector},
    {"blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.router.weight", &Layer::router, one, experts, hidden, Role::router},
    {"blk.{}.ffn_gate_inp.bias", "model.layers.{}.mlp.router.bias", &Layer::router_bias, one, one, experts, Role::vector},
    {"blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", &Layer::gate, experts, intermediate, hidden, Role::expert, {.stacked_experts = true, .row_start = 0, .row_stride = 2}},
    {"blk.{}.ffn_gate_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias", &Layer::gate_bias, experts, one, intermediate, Role::vector, {.row_start = 0, .row_stride = 2}},
    {"blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", &Layer::up, experts, intermediate, hidden, Role::expert, {.stacked_experts = true, .row_start = 1, .row_stride = 2}},
    {"blk.{}.ffn_up_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias", &Layer::up_bias, experts, one, intermediate, Role::vector, {.row_start = 1, .row_stride = 2}},
    {"blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.down_proj", &Layer::down, experts, hidden, intermediate, Role::expert, {.stacked_experts = true}},
    {"blk.{}.ffn_down_exps.bias", "model.layers.{}.mlp.experts.down_proj_bias", &Layer::down_bias, experts, one, hidden, Role::vector},
    {"output_norm.weight", "model.norm.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head},
};
// clang-format on

constexpr float kAlpha = 1.702f, kLimit = 7;

void alternate_sliding_layers(Config& c) {
  for (int64_t i = 0; i < c.layers; ++i) c.is_sliding[i] = i % 2 == 0;
}

Config config_from_checkpoint(const json::Node& j) {
  Config c = parse_common_config(j, "gpt-oss");
  c.experts = j["num_local_experts"].integer(1, 4096);
  c.top_k = j.find("num_experts_per_tok") ? j["num_experts_per_tok"].integer(1, 64)
                                          : j["experts_per_token"].integer(1, 64);
  // hidden_act in config.json does not name this activation.
  c.activation = {.kind = backend::ActivationKind::clamped_swiglu,
                  .alpha = static_cast<float>(j.number_or("swiglu_alpha", kAlpha)),
                  .limit = static_cast<float>(j.number_or("swiglu_limit", kLimit))};
  if (!j.find("layer_types")) alternate_sliding_layers(c);
  return c;
}

Config config_from_gguf(const io::GgufMetadata& m) {
  Config c = parse_common_config(m, "gpt-oss");
  c.experts = m.integer("gpt-oss.expert_count", 1, 4096);
  c.top_k = m.integer("gpt-oss.expert_used_count", 1, 64);
  c.intermediate = m.integer("gpt-oss.expert_feed_forward_length", 1, 1 << 22);
  c.window = m.integer("gpt-oss.attention.sliding_window", 1, 1 << 28);
  c.activation = {backend::ActivationKind::clamped_swiglu, kAlpha, kLimit};
  for (RopeConfig& rope : c.rope) {
    rope.base = m.number("gpt-oss.rope.freq_base");
    rope.yarn.truncate = false;
  }
  alternate_sliding_layers(c);
  return c;
}

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  // GGUF metadata of gpt-oss has no keys for these values, so they must be the usual ones.
  for (int64_t i = 0; i < c.layers; ++i) {
    require_representable(c.is_sliding[i] == (i % 2 == 0), "layer_types",
                          "GGUF metadata of gpt-oss implies alternating layers, sliding first");
  }
  const YarnScaling& yarn = c.rope_for(backend::KvGroup::full).yarn;
  require_representable(yarn.factor == 1 || !yarn.truncate, "rope_scaling.truncate",
                        "GGUF metadata of gpt-oss implies a YaRN ramp without truncation");
  require_representable(c.activation.limit == kLimit, "swiglu_limit",
                        "GGUF metadata of gpt-oss implies a limit of 7");
  require_representable(c.activation.alpha == kAlpha, "swiglu_alpha",
                        "GGUF metadata of gpt-oss implies an alpha of 1.702");
  write_common_metadata(c, out);
  const auto integer = [&](const char* key, int64_t value) {
    out.add<uint32_t>(fmt::format("gpt-oss.{}", key), static_cast<uint32_t>(value));
  };
  integer("expert_count", c.experts);
  integer("expert_used_count", c.top_k);
  integer("expert_feed_forward_length", c.intermediate);
}

/// The whole model, over the batch of the current step.
void forward(backend::Backend& b, const Config& c, const Weights& w, const RunState& s) {
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const int head_dim = static_cast<int>(c.head_dim);
  const auto norm = [&](const backend::Tensor& weight) {
    return backend::Norm{.weight = weight, .eps = static_cast<float>(c.norm_eps)};
  };

  b.embed({.table = w.embedding, .x = s.x});
  for (const RopeCache& r : s.rope_caches)
    b.rope_cos_sin({.rope = r.rope, .head_dim = head_dim, .cos = r.cos, .sin = r.sin});
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = w.layers[i];
    const RopeCache& rope_cache = s.rope_cache(c.kv_group(i));
    const backend::Router router{.norm = norm(layer.mlp_norm),
                                 .linear = {layer.router, layer.router_bias},
                                 .top_k = static_cast<int>(c.top_k),
                                 .partial_logits = s.router_partials};
    // x += o(attention(rope(qkv(norm(x)))))
    b.attention_block({.x = s.x,
                       .norm = norm(layer.attn_norm),
                       .q = {layer.q, layer.q_bias},
                       .k = {layer.k, layer.k_bias},
                       .v = {layer.v, layer.v_bias},
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .cos = rope_cache.cos,
                       .sin = rope_cache.sin,
                       .scale = attention_scale(c),
                       .window = c.is_sliding[i] ? c.window : 0,
                       .sinks = layer.sinks,
                       .kv = s.kv[i],
                       .o = {layer.o, layer.o_bias},
                       .next_router = &router});
    // x += Σ p_e · down_e(swiglu(gate_e, up_e)(norm(x)))
    b.moe_block({.router = router,
                 .gate = {layer.gate, layer.gate_bias},
                 .up = {layer.up, layer.up_bias},
                 .down = {layer.down, layer.down_bias},
                 .activation = c.activation,
                 .x = s.x});
  }
  b.lm_head({.x = s.x, .norm = norm(w.final_norm), .linear = {w.lm_head, {}}, .logits = s.logits});
}

}  // namespace

namespace architectures {
extern const Architecture gpt_oss{.gguf = "gpt-oss",
                                  .model_types = kModelTypes,
                                  .tensors = kTensors,
                                  .config_from_gguf = config_from_gguf,
                                  .config_from_checkpoint = config_from_checkpoint,
                                  .write_gguf_metadata = write_gguf_metadata,
                                  .forward = forward};
}

}  // namespace mxgpt::model
