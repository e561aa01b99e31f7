#include "model/config_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace mxgpt::model {

namespace {

/// Llama 3.1: pairs with fewer than low_freq_factor rotations within the original context are
/// divided by `factor`, those above high_freq_factor keep their frequency, with a linear blend
/// between. Source: transformers, modeling_rope_utils.py, _compute_llama3_parameters.
std::vector<float> llama3_freq_factors(const json::Node& scaling, double base, int64_t head_dim) {
  const double factor = scaling["factor"].number();
  const double low = scaling["low_freq_factor"].number();
  const double high = scaling["high_freq_factor"].number();
  const double context = scaling["original_max_position_embeddings"].number();
  if (!(factor >= 1)) scaling["factor"].fail("must be at least 1");
  if (!(high > low)) scaling["high_freq_factor"].fail("must be above low_freq_factor");
  std::vector<float> divisors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency =
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double turns = context * frequency / (2 * std::numbers::pi);
    const double unscaled = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    divisors.push_back(static_cast<float>(1 / ((1 - unscaled) / factor + unscaled)));
  }
  return divisors;
}

}  // namespace

RopeConfig parse_rope_config(const json::Node& parameters, const json::Node& config,
                             int64_t head_dim) {
  RopeConfig rope;
  rope.base = parameters.find("rope_theta") ? parameters["rope_theta"].number()
                                            : config.number_or("rope_theta", 10000);
  for (const json::Node& node : {parameters, config}) {
    if (node.number_or("partial_rotary_factor", 1) != 1)
      node["partial_rotary_factor"].fail("is not 1; partial rotary embedding is not supported");
  }
  const char* key = parameters.find("rope_type") ? "rope_type" : "type";  // older files
  const std::string_view type = parameters.string_or(key, "default");
  if (type == "linear") {
    rope.linear_factor = parameters["factor"].number();
  } else if (type == "llama3") {
    rope.freq_factors = llama3_freq_factors(parameters, rope.base, head_dim);
  } else if (type == "yarn") {
    rope.yarn = {
        .factor = parameters["factor"].number(),
        .original_context = parameters.number_or("original_max_position_embeddings",
                                                 config["max_position_embeddings"].number()),
        .beta_fast = parameters.number_or("beta_fast", 32),
        .beta_slow = parameters.number_or("beta_slow", 1),
        .truncate = parameters.boolean_or("truncate", true)};
    for (const char* unknown : {"attention_factor", "mscale", "mscale_all_dim"}) {
      if (parameters.find(unknown)) parameters[unknown].fail("is not supported");
    }
  } else if (type != "default") {
    parameters[key].fail(
        fmt::format("is '{}'; supported are default, linear, llama3 and yarn", type));
  }
  return rope;
}

backend::ActivationKind parse_activation(const json::Node& name) {
  const std::string_view text = name.string();
  if (text == "silu" || text == "swish") return backend::ActivationKind::silu;
  if (text == "gelu") return backend::ActivationKind::gelu;
  if (text == "gelu_new" || text == "gelu_pytorch_tanh") return backend::ActivationKind::gelu_tanh;
  name.fail(fmt::format("is '{}'; supported are silu, gelu, gelu_new and gelu_pytorch_tanh", text));
}

Config parse_common_config(const json::Node& j, std::string_view architecture) {
  Config c;
  c.architecture = architecture;
  c.vocabulary = j["vocab_size"].integer(1, 1 << 24);
  c.layers = j["num_hidden_layers"].integer(1, 4096);
  c.hidden = j["hidden_size"].integer(1, 1 << 20);
  c.heads = j["num_attention_heads"].integer(1, 4096);
  c.kv_heads = j.integer_or("num_key_value_heads", c.heads, 1, 4096);
  c.head_dim = j.integer_or("head_dim", c.hidden / c.heads, 1, 4096);
  c.intermediate = j["intermediate_size"].integer(1, 1 << 22);
  c.context = j["max_position_embeddings"].integer(1, 1 << 28);
  c.window = j.integer_or("sliding_window", 0, 0, 1 << 28);
  if (!j.boolean_or("use_sliding_window", true)) c.window = 0;
  c.norm_eps = j.number_or("rms_norm_eps", 1e-6);
  for (const char* name : {"hidden_act", "hidden_activation"}) {
    if (j.find(name)) c.activation.kind = parse_activation(j[name]);
  }
  // Newer files store the RoPE base with the scaling, and may have one per layer type.
  const auto parameters = j.find("rope_parameters");
  const auto rope = parameters ? parameters : j.find("rope_scaling");
  const auto rope_for_layers = [&](const char* type) {
    if (rope && rope->find(type)) return parse_rope_config((*rope)[type], j, c.head_dim);
    return parse_rope_config(rope ? *rope : j, j, c.head_dim);
  };
  c.rope = {rope_for_layers("full_attention"), rope_for_layers("sliding_attention")};
  c.is_sliding.assign(c.layers, false);
  if (const auto types = j.find("layer_types")) {
    c.is_sliding.clear();
    for (size_t i = 0; i < types->array().size(); ++i) {
      const std::string_view type = types->at(i).string();
      if (type != "sliding_attention" && type != "full_attention")
        types->at(i).fail("is neither sliding_attention nor full_attention");
      c.is_sliding.push_back(type == "sliding_attention");
    }
  } else if (j.find("max_window_layers") && c.window > 0) {
    const int64_t full = j["max_window_layers"].integer(0, 4096);
    for (int64_t i = full; i < c.layers; ++i) c.is_sliding[i] = true;
  }
  return c;
}

Config parse_common_config(const io::GgufMetadata& m, std::string_view architecture) {
  Config c;
  c.architecture = architecture;
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", architecture, name); };
  c.name = m.string_or("general.name", "");
  c.layers = m.integer(key("block_count"), 1, 4096);
  c.context = m.integer(key("context_length"), 1, 1 << 28);
  c.hidden = m.integer(key("embedding_length"), 1, 1 << 20);
  c.heads = m.integer(key("attention.head_count"), 1, 4096);
  c.kv_heads = m.integer_or(key("attention.head_count_kv"), c.heads, 1, 4096);
  c.head_dim = m.integer_or(key("attention.key_length"), c.hidden / c.heads, 1, 4096);
  if (m.integer_or(key("attention.value_length"), c.head_dim, 1, 4096) != c.head_dim)
    m.fail(key("attention.value_length"), "differs from attention.key_length; they must be equal");
  if (m.integer_or(key("rope.dimension_count"), c.head_dim, 0, 4096) != c.head_dim)
    m.fail(key("rope.dimension_count"),
           "is not the head size; partial rotary embedding is not supported");
  const auto width = key("expert_feed_forward_length");
  c.intermediate = m.integer(m.contains(width) ? width : key("feed_forward_length"), 1, 1 << 22);
  c.window = m.integer_or(key("attention.sliding_window"), 0, 0, 1 << 28);
  c.norm_eps = m.number(key("attention.layer_norm_rms_epsilon"));
  c.vocabulary = m.contains(key("vocab_size"))
                     ? m.integer(key("vocab_size"), 1, 1 << 24)
                     : static_cast<int64_t>(m.strings("tokenizer.ggml.tokens").size());
  RopeConfig rope;
  rope.base = m.number_or(key("rope.freq_base"), 10000);
  const std::string_view scaling = m.string_or(key("rope.scaling.type"), "none");
  if (scaling == "yarn") {
    rope.yarn = {.factor = m.number(key("rope.scaling.factor")),
                 .original_context = m.number(key("rope.scaling.original_context_length")),
                 .beta_fast = m.number_or(key("rope.scaling.yarn_beta_fast"), 32),
                 .beta_slow = m.number_or(key("rope.scaling.yarn_beta_slow"), 1)};
  } else if (scaling == "linear") {
    rope.linear_factor = m.number(key("rope.scaling.factor"));
  } else if (scaling != "none") {
    m.fail(key("rope.scaling.type"),
           fmt::format("is '{}'; supported are none, linear and yarn", scaling));
  }
  c.rope = {rope, rope};
  c.is_sliding.assign(c.layers, false);
  return c;
}

void require_representable(bool representable, std::string_view field,
                           std::string_view requirement) {
  if (!representable)
    throw Error(std::string(field), std::string(requirement), "this model cannot be converted");
}

void require_uniform_layers(const Config& c) {
  const auto sliding = std::count(c.is_sliding.begin(), c.is_sliding.end(), true);
  require_representable(sliding == 0 || sliding == c.layers, "layer_types",
                        "GGUF metadata of this architecture has a single layer type");
}

void require_full_attention(const Config& c) {
  require_representable(std::count(c.is_sliding.begin(), c.is_sliding.end(), true) == 0,
                        "layer_types", "GGUF metadata of this architecture has no sliding layers");
}

void require_activation(const Config& c, backend::ActivationKind kind) {
  require_representable(c.activation.kind == kind, "the activation function",
                        "is not the one that GGUF metadata of this architecture implies");
}

void write_common_metadata(const Config& c, io::GgufWriter& out) {
  const auto key = [&](std::string_view name) {
    return fmt::format("{}.{}", c.architecture, name);
  };
  const auto integer = [&](std::string_view name, int64_t value) {
    out.add<uint32_t>(key(name), static_cast<uint32_t>(value));
  };
  const auto number = [&](std::string_view name, double value) {
    out.add<float>(key(name), static_cast<float>(value));
  };
  integer("block_count", c.layers);
  integer("context_length", c.context);
  integer("embedding_length", c.hidden);
  integer("feed_forward_length", c.intermediate);
  integer("vocab_size", c.vocabulary);
  integer("attention.head_count", c.heads);
  integer("attention.head_count_kv", c.kv_heads);
  integer("attention.key_length", c.head_dim);
  integer("attention.value_length", c.head_dim);
  if (std::find(c.is_sliding.begin(), c.is_sliding.end(), true) != c.is_sliding.end())
    integer("attention.sliding_window", c.window);
  number("attention.layer_norm_rms_epsilon", c.norm_eps);
  integer("rope.dimension_count", c.head_dim);
  const RopeConfig& rope = c.rope_for(backend::KvGroup::full);
  number("rope.freq_base", rope.base);
  if (rope.yarn.factor != 1) {
    out.add<std::string_view>(key("rope.scaling.type"), "yarn");
    number("rope.scaling.factor", rope.yarn.factor);
    integer("rope.scaling.original_context_length",
            static_cast<int64_t>(rope.yarn.original_context));
    number("rope.scaling.yarn_beta_fast", rope.yarn.beta_fast);
    number("rope.scaling.yarn_beta_slow", rope.yarn.beta_slow);
  } else if (rope.linear_factor != 1) {
    out.add<std::string_view>(key("rope.scaling.type"), "linear");
    number("rope.scaling.factor", rope.linear_factor);
  }
}

QkvProjections qkv_projections(const Layer& layer, const Config& c) {
  if (!layer.qkv)
    return {{layer.q, layer.q_bias}, {layer.k, layer.k_bias}, {layer.v, layer.v_bias}};
  const int64_t q = dim(c, Dim::q), kv = dim(c, Dim::kv);
  const auto slice = [&](int64_t first, int64_t count) {
    return backend::Linear{layer.qkv.row_range(first, count),
                           layer.qkv_bias.element_range(first, count)};
  };
  return {slice(0, q), slice(q, kv), slice(q + kv, kv)};
}

GateUpProjections gate_up_projections(const Layer& layer, const Config& c) {
  if (!layer.gate_up) return {{layer.gate, layer.gate_bias}, {layer.up, layer.up_bias}};
  return {{layer.gate_up.row_range(0, c.intermediate), {}},
          {layer.gate_up.row_range(c.intermediate, c.intermediate), {}}};
}

float attention_scale(const Config& c) {
  return static_cast<float>(c.attention_scale ? c.attention_scale
                                              : 1 / std::sqrt(static_cast<double>(c.head_dim)));
}

}  // namespace mxgpt::model
