// gpt-oss (OpenAI 2025): RMSNorm, grouped-query attention with sinks that alternates between a
// sliding window and everything, YaRN rotary embedding, and a mixture of experts with clamped
// SwiGLU. Reference: openai/gpt-oss, gpt_oss/torch/model.py; transformers,
// models/gpt_oss/modeling_gpt_oss.py.
#include <fmt/format.h>

#include "model/architecture.h"
#include "model/cpu_runner.h"

namespace mxgpt {
namespace {

using enum Dim;

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
    {"blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", &Layer::gate, experts, intermediate, hidden, Role::expert, {.experts = true, .row_start = 0, .row_stride = 2}},
    {"blk.{}.ffn_gate_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias", &Layer::gate_bias, experts, one, intermediate, Role::vector, {.row_start = 0, .row_stride = 2}},
    {"blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", &Layer::up, experts, intermediate, hidden, Role::expert, {.experts = true, .row_start = 1, .row_stride = 2}},
    {"blk.{}.ffn_up_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias", &Layer::up_bias, experts, one, intermediate, Role::vector, {.row_start = 1, .row_stride = 2}},
    {"blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.down_proj", &Layer::down, experts, hidden, intermediate, Role::expert, {.experts = true}},
    {"blk.{}.ffn_down_exps.bias", "model.layers.{}.mlp.experts.down_proj_bias", &Layer::down_bias, experts, one, hidden, Role::vector},
    {"output_norm.weight", "model.norm.weight", &Weights::norm, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::head, one, vocabulary, hidden, Role::head},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c;
  c.architecture = "gpt-oss";
  c.vocabulary = j["vocab_size"].integer(1, 1 << 24);
  c.layers = j["num_hidden_layers"].integer(1, 4096);
  c.hidden = j["hidden_size"].integer(1, 1 << 20);
  c.heads = j["num_attention_heads"].integer(1, 4096);
  c.kv_heads = j["num_key_value_heads"].integer(1, 4096);
  c.head_dim = j.integer_or("head_dim", c.hidden / c.heads, 1, 4096);
  c.intermediate = j["intermediate_size"].integer(1, 1 << 22);
  c.experts = j["num_local_experts"].integer(1, 4096);
  c.top_k = j.find("num_experts_per_tok") ? j["num_experts_per_tok"].integer(1, 64)
                                          : j["experts_per_token"].integer(1, 64);
  c.context = j["max_position_embeddings"].integer(1, 1 << 28);
  c.window = j.integer_or("sliding_window", 0, 0, 1 << 28);
  c.norm_eps = j.number_or("rms_norm_eps", 1e-5);
  c.swiglu_alpha = j.number_or("swiglu_alpha", 1.702);
  c.swiglu_limit = j.number_or("swiglu_limit", 7);
  // Newer files keep RoPE's base beside its scaling.
  const auto rope = j.find("rope_parameters");
  const auto scaling = rope ? rope : j.find("rope_scaling");
  c.rope_base = (rope ? *rope : j).number_or("rope_theta", 150000);
  if (scaling && scaling->string_or("rope_type", "yarn") != "default") {
    if (scaling->string_or("rope_type", "yarn") != "yarn") {
      (*scaling)["rope_type"].fail("is not a scaling that gpt-oss uses; yarn is");
    }
    c.yarn = {.factor = (*scaling)["factor"].number(),
              .original_context = scaling->number_or("original_max_position_embeddings", 4096),
              .beta_fast = scaling->number_or("beta_fast", 32),
              .beta_slow = scaling->number_or("beta_slow", 1),
              .truncate = scaling->boolean_or("truncate", true)};
  }
  if (const auto types = j.find("layer_types")) {
    for (size_t i = 0; i < types->array().size(); ++i) {
      const std::string_view type = types->at(i).string();
      if (type != "sliding_attention" && type != "full_attention")
        types->at(i).fail("is no layer type of gpt-oss");
      c.sliding.push_back(type == "sliding_attention");
    }
  } else {
    for (int64_t i = 0; i < c.layers; ++i) c.sliding.push_back(i % 2 == 0);
  }
  return c;
}

Config config_from_gguf(const GgufMetadata& m) {
  Config c;
  c.architecture = "gpt-oss";
  c.name = m.string_or("general.name", "");
  c.layers = m.integer("gpt-oss.block_count", 1, 4096);
  c.context = m.integer("gpt-oss.context_length", 1, 1 << 28);
  c.hidden = m.integer("gpt-oss.embedding_length", 1, 1 << 20);
  c.heads = m.integer("gpt-oss.attention.head_count", 1, 4096);
  c.kv_heads = m.integer("gpt-oss.attention.head_count_kv", 1, 4096);
  c.head_dim = m.integer_or("gpt-oss.attention.key_length", c.hidden / c.heads, 1, 4096);
  if (m.integer_or("gpt-oss.attention.value_length", c.head_dim, 1, 4096) != c.head_dim) {
    m.fail("gpt-oss.attention.value_length",
           "differs from key_length, which no gpt-oss model does");
  }
  c.experts = m.integer("gpt-oss.expert_count", 1, 4096);
  c.top_k = m.integer("gpt-oss.expert_used_count", 1, 64);
  c.intermediate = m.integer("gpt-oss.expert_feed_forward_length", 1, 1 << 22);
  c.window = m.integer("gpt-oss.attention.sliding_window", 1, 1 << 28);
  c.norm_eps = m.number("gpt-oss.attention.layer_norm_rms_epsilon");
  c.rope_base = m.number("gpt-oss.rope.freq_base");
  c.vocabulary = m.contains("gpt-oss.vocab_size")
                     ? m.integer("gpt-oss.vocab_size", 1, 1 << 24)
                     : static_cast<int64_t>(m.strings("tokenizer.ggml.tokens").size());
  const std::string_view scaling = m.string_or("gpt-oss.rope.scaling.type", "none");
  if (scaling == "yarn") {
    c.yarn = {.factor = m.number("gpt-oss.rope.scaling.factor"),
              .original_context = m.number("gpt-oss.rope.scaling.original_context_length"),
              .beta_fast = m.number_or("gpt-oss.rope.scaling.yarn_beta_fast", 32),
              .beta_slow = m.number_or("gpt-oss.rope.scaling.yarn_beta_slow", 1),
              .truncate = false};
  } else if (scaling != "none") {
    m.fail("gpt-oss.rope.scaling.type", fmt::format("is '{}'; gpt-oss uses yarn", scaling));
  }
  for (int64_t i = 0; i < c.layers; ++i) c.sliding.push_back(i % 2 == 0);
  return c;
}

void describe(const Config& c, GgufWriter& out) {
  const auto number = [&](const char* key, int64_t value) {
    out.add<uint32_t>(fmt::format("gpt-oss.{}", key), static_cast<uint32_t>(value));
  };
  // What GGUF files of gpt-oss have no key for is the same in all of them.
  const auto require = [](bool same, const char* field, const char* what) {
    if (!same) throw Error(field, what, "this model cannot be converted");
  };
  for (int64_t i = 0; i < c.layers; ++i) {
    require(c.sliding[i] == (i % 2 == 0), "layer_types",
            "GGUF files of gpt-oss have sliding and full layers in turn, sliding first");
  }
  require(c.yarn.factor == 1 || !c.yarn.truncate, "rope_scaling.truncate",
          "GGUF files of gpt-oss have a YaRN ramp that is not rounded to whole dimensions");
  require(c.swiglu_limit == 7, "swiglu_limit", "GGUF files of gpt-oss have a limit of 7");
  require(c.swiglu_alpha == 1.702, "swiglu_alpha", "GGUF files of gpt-oss have an alpha of 1.702");
  number("block_count", c.layers);
  number("context_length", c.context);
  number("embedding_length", c.hidden);
  number("feed_forward_length", c.intermediate);
  number("vocab_size", c.vocabulary);
  number("attention.head_count", c.heads);
  number("attention.head_count_kv", c.kv_heads);
  number("attention.key_length", c.head_dim);
  number("attention.value_length", c.head_dim);
  number("attention.sliding_window", c.window);
  out.add<float>("gpt-oss.attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_eps));
  number("expert_count", c.experts);
  number("expert_used_count", c.top_k);
  number("expert_feed_forward_length", c.intermediate);
  number("rope.dimension_count", c.head_dim);
  out.add<float>("gpt-oss.rope.freq_base", static_cast<float>(c.rope_base));
  if (c.yarn.factor != 1) {
    out.add<std::string_view>("gpt-oss.rope.scaling.type", "yarn");
    out.add<float>("gpt-oss.rope.scaling.factor", static_cast<float>(c.yarn.factor));
    number("rope.scaling.original_context_length", static_cast<int64_t>(c.yarn.original_context));
    out.add<float>("gpt-oss.rope.scaling.yarn_beta_fast", static_cast<float>(c.yarn.beta_fast));
    out.add<float>("gpt-oss.rope.scaling.yarn_beta_slow", static_cast<float>(c.yarn.beta_slow));
  }
}

/// The whole model. `b` is a backend, `s` its memory (model/cpu_runner.h).
template <class Backend, class Memory>
void forward(Backend& b, const Config& c, const Weights& w, Memory& s, const Batch& batch) {
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const int head_dim = static_cast<int>(c.head_dim);
  const auto norm = [&](const Tensor& weight) {
    return RmsNorm{weight, static_cast<float>(c.norm_eps)};
  };

  b.begin(batch);
  b.embed({.table = w.embedding, .x = s.x});
  b.rotations({.rope = s.rope, .head_dim = head_dim, .cos = s.cos, .sin = s.sin});
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = w.layers[i];
    b.norm_qkv_rope_store({.x = s.x,
                           .norm = norm(layer.attn_norm),
                           .q = {layer.q, layer.q_bias},
                           .k = {layer.k, layer.k_bias},
                           .v = {layer.v, layer.v_bias},
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .head_dim = head_dim,
                           .cos = s.cos,
                           .sin = s.sin,
                           .kv = s.kv[i],
                           .q_out = s.q});
    b.attend({.q = s.q,
              .heads = heads,
              .kv_heads = kv_heads,
              .head_dim = head_dim,
              .kv = s.kv[i],
              .window = c.sliding[i] ? c.window : 0,
              .sinks = layer.sinks,
              .out = s.attended});
    b.project_residual({.in = s.attended, .linear = {layer.o, layer.o_bias}, .x = s.x});
    b.norm_route_experts_residual({.norm = norm(layer.mlp_norm),
                                   .router = {layer.router, layer.router_bias},
                                   .gate = {layer.gate, layer.gate_bias},
                                   .up = {layer.up, layer.up_bias},
                                   .down = {layer.down, layer.down_bias},
                                   .top_k = static_cast<int>(c.top_k),
                                   .activation = {.alpha = static_cast<float>(c.swiglu_alpha),
                                                  .limit = static_cast<float>(c.swiglu_limit)},
                                   .x = s.x});
  }
  b.norm_logits({.x = s.x, .norm = norm(w.norm), .head = {w.head, {}}, .logits = s.logits});
}

std::unique_ptr<Runner> runner(const Config& c, const Weights& w, const RunnerOptions& options) {
  return make_cpu_runner(c, w, options, [](auto&... args) { forward(args...); });
}

}  // namespace

namespace architectures {
extern const Architecture gpt_oss{.gguf = "gpt-oss",
                                  .model_type = "gpt_oss",
                                  .tensors = kTensors,
                                  .config_from_gguf = config_from_gguf,
                                  .config_from_checkpoint = config_from_checkpoint,
                                  .describe = describe,
                                  .runner = runner};
}

}  // namespace mxgpt
