// GPT-2 (Radford et al. 2019): LayerNorm, multi-head attention with Q, K and V in one projection,
// learned position embeddings, GELU, and an LM head tied to the token embedding. Reference:
// transformers, models/gpt2/modeling_gpt2.py.
#include "base/error.h"
#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"gpt2"};
constexpr FileLayout kTransposed{.transposed = true};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "transformer.wte.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"position_embd.weight", "transformer.wpe.weight", &Weights::position_embedding, one, context, hidden, Role::embedding},
    {"blk.{}.attn_norm.weight", "transformer.h.{}.ln_1.weight", &Layer::attn_norm, one, one, hidden, Role::vector},
    {"blk.{}.attn_norm.bias", "transformer.h.{}.ln_1.bias", &Layer::attn_norm_bias, one, one, hidden, Role::vector},
    {"blk.{}.attn_qkv.weight", "transformer.h.{}.attn.c_attn.weight", &Layer::qkv, one, qkv, hidden, Role::dense, kTransposed},
    {"blk.{}.attn_qkv.bias", "transformer.h.{}.attn.c_attn.bias", &Layer::qkv_bias, one, one, qkv, Role::vector},
    {"blk.{}.attn_output.weight", "transformer.h.{}.attn.c_proj.weight", &Layer::o, one, hidden, q, Role::dense, kTransposed},
    {"blk.{}.attn_output.bias", "transformer.h.{}.attn.c_proj.bias", &Layer::o_bias, one, one, hidden, Role::vector},
    {"blk.{}.ffn_norm.weight", "transformer.h.{}.ln_2.weight", &Layer::mlp_norm, one, one, hidden, Role::vector},
    {"blk.{}.ffn_norm.bias", "transformer.h.{}.ln_2.bias", &Layer::mlp_norm_bias, one, one, hidden, Role::vector},
    {"blk.{}.ffn_up.weight", "transformer.h.{}.mlp.c_fc.weight", &Layer::up, one, intermediate, hidden, Role::dense, kTransposed},
    {"blk.{}.ffn_up.bias", "transformer.h.{}.mlp.c_fc.bias", &Layer::up_bias, one, one, intermediate, Role::vector},
    {"blk.{}.ffn_down.weight", "transformer.h.{}.mlp.c_proj.weight", &Layer::down, one, hidden, intermediate, Role::dense, kTransposed},
    {"blk.{}.ffn_down.bias", "transformer.h.{}.mlp.c_proj.bias", &Layer::down_bias, one, one, hidden, Role::vector},
    {"output_norm.weight", "transformer.ln_f.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output_norm.bias", "transformer.ln_f.bias", &Weights::final_norm_bias, one, one, hidden, Role::vector},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head, {.optional = true}},
};
// clang-format on

Config config_from_checkpoint(const json::Node& j) {
  Config c;
  c.architecture = "gpt2";
  c.vocabulary = j["vocab_size"].integer(1, 1 << 24);
  c.context = j["n_positions"].integer(1, 1 << 28);
  c.layers = j["n_layer"].integer(1, 4096);
  c.hidden = j["n_embd"].integer(1, 1 << 20);
  c.heads = c.kv_heads = j["n_head"].integer(1, 4096);
  c.head_dim = c.hidden / c.heads;
  c.intermediate = j.integer_or("n_inner", 4 * c.hidden, 1, 1 << 22);
  c.norm_eps = j.number_or("layer_norm_epsilon", 1e-5);
  c.activation.kind = backend::ActivationKind::gelu_tanh;
  if (j.find("activation_function")) c.activation.kind = parse_activation(j["activation_function"]);
  for (const char* unknown : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) {
    if (j.boolean_or(unknown, false)) j[unknown].fail("is set, which is not supported");
  }
  if (!j.boolean_or("scale_attn_weights", true)) c.attention_scale = 1;
  c.is_sliding.assign(c.layers, false);
  return c;
}

Config config_from_gguf(const io::GgufMetadata& m) {
  Config c;
  c.architecture = "gpt2";
  c.name = m.string_or("general.name", "");
  c.context = m.integer("gpt2.context_length", 1, 1 << 28);
  c.layers = m.integer("gpt2.block_count", 1, 4096);
  c.hidden = m.integer("gpt2.embedding_length", 1, 1 << 20);
  c.heads = c.kv_heads = m.integer("gpt2.attention.head_count", 1, 4096);
  c.head_dim = c.hidden / c.heads;
  c.intermediate = m.integer("gpt2.feed_forward_length", 1, 1 << 22);
  c.norm_eps = m.number("gpt2.attention.layer_norm_epsilon");
  c.activation.kind = backend::ActivationKind::gelu_tanh;
  c.vocabulary = m.contains("gpt2.vocab_size")
                     ? m.integer("gpt2.vocab_size", 1, 1 << 24)
                     : static_cast<int64_t>(m.strings("tokenizer.ggml.tokens").size());
  c.is_sliding.assign(c.layers, false);
  return c;
}

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  require_activation(c, backend::ActivationKind::gelu_tanh);
  require_representable(c.attention_scale == 0, "scale_attn_weights",
                        "GGUF metadata of GPT-2 implies scaled attention");
  const auto integer = [&](const char* key, int64_t value) {
    out.add<uint32_t>(std::string("gpt2.") + key, static_cast<uint32_t>(value));
  };
  integer("context_length", c.context);
  integer("block_count", c.layers);
  integer("embedding_length", c.hidden);
  integer("feed_forward_length", c.intermediate);
  integer("vocab_size", c.vocabulary);
  integer("attention.head_count", c.heads);
  out.add<float>("gpt2.attention.layer_norm_epsilon", static_cast<float>(c.norm_eps));
}

/// The whole model, over the batch of the current step.
void forward(backend::Backend& b, const Config& c, const Weights& w, const RunState& s) {
  const int heads = static_cast<int>(c.heads), head_dim = static_cast<int>(c.head_dim);
  const auto norm = [&](const backend::Tensor& weight, const backend::Tensor& bias) {
    return backend::Norm{weight, bias, static_cast<float>(c.norm_eps), backend::NormKind::layer};
  };

  b.embed({.table = w.embedding, .positions = w.position_embedding, .x = s.x});
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = w.layers[i];
    const auto [q, k, v] = qkv_projections(layer, c);
    // x += o(attention(qkv(norm(x))))
    b.attention_block({.x = s.x,
                       .norm = norm(layer.attn_norm, layer.attn_norm_bias),
                       .q = q,
                       .k = k,
                       .v = v,
                       .heads = heads,
                       .kv_heads = heads,
                       .head_dim = head_dim,
                       .scale = attention_scale(c),
                       .kv = s.kv[i],
                       .o = {layer.o, layer.o_bias}});
    // x += down(gelu(up(norm(x))))
    b.mlp_block({.norm = norm(layer.mlp_norm, layer.mlp_norm_bias),
                 .up = {layer.up, layer.up_bias},
                 .down = {layer.down, layer.down_bias},
                 .activation = c.activation,
                 .x = s.x});
  }
  b.lm_head({.x = s.x,
             .norm = norm(w.final_norm, w.final_norm_bias),
             .linear = {w.lm_head_or_embedding(), {}},
             .logits = s.logits});
}

}  // namespace

namespace architectures {
extern const Architecture gpt2{.gguf = "gpt2",
                               .model_types = kModelTypes,
                               .tensors = kTensors,
                               .checkpoint_prefix = "transformer.",
                               .config_from_gguf = config_from_gguf,
                               .config_from_checkpoint = config_from_checkpoint,
                               .write_gguf_metadata = write_gguf_metadata,
                               .forward = forward};
}

}  // namespace mxgpt::model
