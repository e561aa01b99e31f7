// Gemma 3 text model (Gemma Team 2025): Llama with norms on each head of Q and K and after
// attention and MLP, GELU, embeddings scaled by sqrt(hidden), and five sliding layers per full
// layer, each type with its own RoPE base. Norms multiply by 1 + weight. Reference: transformers,
// models/gemma3/modeling_gemma3.py.
#include <cmath>

#include "model/arch/llama.h"
#include "model/architecture.h"
#include "model/config_parser.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"gemma3_text"};
constexpr FileLayout kPlusOne{.plus_one = true};

// clang-format off
constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "model.embed_tokens.weight", &Weights::embedding, one, vocabulary, hidden, Role::embedding},
    {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", &Layer::attn_norm, one, one, hidden, Role::vector, kPlusOne},
    {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", &Layer::q, one, q, hidden, Role::dense},
    {"blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight", &Layer::q_norm, one, one, head_dim, Role::vector, kPlusOne},
    {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", &Layer::k, one, kv, hidden, Role::dense},
    {"blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight", &Layer::k_norm, one, one, head_dim, Role::vector, kPlusOne},
    {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", &Layer::v, one, kv, hidden, Role::dense},
    {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", &Layer::o, one, hidden, q, Role::dense},
    {"blk.{}.post_attention_norm.weight", "model.layers.{}.post_attention_layernorm.weight", &Layer::attn_post_norm, one, one, hidden, Role::vector, kPlusOne},
    {"blk.{}.ffn_norm.weight", "model.layers.{}.pre_feedforward_layernorm.weight", &Layer::mlp_norm, one, one, hidden, Role::vector, kPlusOne},
    {"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", &Layer::gate, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", &Layer::up, one, intermediate, hidden, Role::dense},
    {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", &Layer::down, one, hidden, intermediate, Role::dense},
    {"blk.{}.post_ffw_norm.weight", "model.layers.{}.post_feedforward_layernorm.weight", &Layer::mlp_post_norm, one, one, hidden, Role::vector, kPlusOne},
    {"output_norm.weight", "model.norm.weight", &Weights::final_norm, one, one, hidden, Role::vector, kPlusOne},
    {"output.weight", "lm_head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::lm_head, {.optional = true}},
};
// clang-format on

/// Defaults of all Gemma 3 models: one full layer per kSlidingPattern layers, and the RoPE base of
/// sliding layers.
constexpr int64_t kSlidingPattern = 6;
constexpr double kSlidingRopeBase = 10000;

/// Only the largest model, with 62 layers, has its own attention scale.
double default_attention_scale(const Config& c) {
  const int64_t query_dim = c.layers == 62 ? c.hidden / c.heads : c.head_dim;
  return 1 / std::sqrt(static_cast<double>(query_dim));
}

Config config_from_checkpoint(const json::Node& j) {
  Config c = parse_common_config(j, "gemma3");
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden));
  c.attention_scale = 1 / std::sqrt(j.number_or("query_pre_attn_scalar", 256));
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (j.find(cap)) j[cap].fail("is set; logit soft-capping is not supported");
  }
  if (j.boolean_or("use_bidirectional_attention", false))
    j["use_bidirectional_attention"].fail("is set; bidirectional attention is not supported");
  if (!j.find("layer_types")) {
    const int64_t pattern = j.integer_or("sliding_window_pattern", kSlidingPattern, 1, 4096);
    for (int64_t i = 0; i < c.layers; ++i) c.is_sliding[i] = (i + 1) % pattern != 0;
  }
  if (!j.find("rope_parameters")) {  // older files
    RopeConfig& window = c.rope[static_cast<int>(backend::KvGroup::window)];
    window = {.base = j.number_or("rope_local_base_freq", kSlidingRopeBase)};
    RopeConfig& full = c.rope[static_cast<int>(backend::KvGroup::full)];
    full.base = j.number_or("rope_theta", 1e6);
  }
  return c;
}

Config config_from_gguf(const io::GgufMetadata& m) {
  Config c = parse_common_config(m, "gemma3");
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden));
  c.attention_scale = default_attention_scale(c);
  c.activation.kind = backend::ActivationKind::gelu_tanh;
  const int64_t pattern =
      m.integer_or("gemma3.attention.sliding_window_pattern", kSlidingPattern, 1, 4096);
  for (int64_t i = 0; i < c.layers; ++i) c.is_sliding[i] = c.window > 0 && (i + 1) % pattern != 0;
  c.rope[static_cast<int>(backend::KvGroup::full)].base = m.number_or("gemma3.rope.freq_base", 1e6);
  c.rope[static_cast<int>(backend::KvGroup::window)] = {
      .base = m.number_or("gemma3.rope.freq_base_swa", kSlidingRopeBase)};
  return c;
}

void write_gguf_metadata(const Config& c, io::GgufWriter& out) {
  int64_t pattern = 1;
  while (pattern <= c.layers && c.is_sliding[pattern - 1]) ++pattern;
  for (int64_t i = 0; i < c.layers; ++i) {
    require_representable(
        c.is_sliding[i] == ((i + 1) % pattern != 0), "layer_types",
        "GGUF metadata of Gemma 3 requires a full layer after a fixed number of sliding layers");
  }
  require_representable(std::abs(c.attention_scale - default_attention_scale(c)) < 1e-9,
                        "query_pre_attn_scalar", "GGUF metadata of Gemma 3 implies the head size");
  const RopeConfig& window = c.rope_for(backend::KvGroup::window);
  require_representable(window == RopeConfig{.base = window.base}, "rope_parameters",
                        "GGUF metadata of Gemma 3 has no RoPE scaling for sliding layers");
  require_activation(c, backend::ActivationKind::gelu_tanh);
  write_common_metadata(c, out);
  if (pattern != kSlidingPattern) {
    out.add<uint32_t>("gemma3.attention.sliding_window_pattern", static_cast<uint32_t>(pattern));
  }
  if (window.base != kSlidingRopeBase) {
    out.add<float>("gemma3.rope.freq_base_swa", static_cast<float>(window.base));
  }
}

}  // namespace

namespace architectures {
extern const Architecture gemma3{.gguf = "gemma3",
                                 .model_types = kModelTypes,
                                 .tensors = kTensors,
                                 .config_from_gguf = config_from_gguf,
                                 .config_from_checkpoint = config_from_checkpoint,
                                 .write_gguf_metadata = write_gguf_metadata,
                                 .forward = forward_llama};
}

}  // namespace mxgpt::model
