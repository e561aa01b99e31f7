#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace mxgpt::model {

void Config::check(const std::string& where) const {
  const auto in_range = [&](const char* field, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
      throw Error(where, fmt::format("{} is {}, outside {} to {}", field, value, low, high));
    }
  };
  in_range("the vocabulary size", vocabulary, 1, 1 << 24);
  in_range("the context length", context, 1, 1 << 28);
  in_range("the number of layers", layers, 1, 4096);
  in_range("the hidden size", hidden, 1, 1 << 20);
  in_range("the number of heads", heads, 1, 4096);
  in_range("the number of key/value heads", kv_heads, 1, heads);
  in_range("the size of a head", head_dim, 2, 512);
  in_range("the intermediate size", intermediate, 1, 1 << 22);
  in_range("the number of experts", experts, 0, 4096);
  in_range("the number of chosen experts", top_k, experts ? 1 : 0, std::min<int64_t>(experts, 64));
  in_range("the sliding window", window, 0, 1 << 28);
  if (heads % kv_heads || heads / kv_heads > 64) {
    throw Error(where, fmt::format("{} heads cannot share {} key/value heads", heads, kv_heads));
  }
  if (head_dim % 2)
    throw Error(where, fmt::format("the size of a head is {}, which is odd", head_dim));
  if (static_cast<int64_t>(is_sliding.size()) != layers) {
    throw Error(where, fmt::format("{} layers have {} layer types", layers, is_sliding.size()));
  }
  if (window == 0 && std::find(is_sliding.begin(), is_sliding.end(), true) != is_sliding.end()) {
    throw Error(where, "layer_types has a sliding_attention layer but sliding_window is 0");
  }
  const auto positive = [&](const char* field, double value) {
    if (!(value > 0 && value < 1e12)) throw Error(where, fmt::format("{} is {}", field, value));
  };
  positive("the norm's epsilon", norm_eps);
  positive("the scale of attention", attention_scale ? attention_scale : 1);
  positive("the scale of the embedding", embedding_scale);
  for (const RopeConfig& r : rope) {
    positive("the RoPE base", r.base);
    positive("the RoPE scaling factor", r.yarn.factor);
    positive("the linear RoPE scaling factor", r.linear_factor);
    if (r.yarn.factor != 1) {
      positive("YaRN's original context length", r.yarn.original_context);
      positive("YaRN's beta_fast", r.yarn.beta_fast);
      positive("YaRN's beta_slow", r.yarn.beta_slow);
      if (r.base <= 1) throw Error(where, fmt::format("the RoPE base is {}", r.base));
    }
    if (!r.freq_factors.empty() && static_cast<int64_t>(r.freq_factors.size()) != head_dim / 2) {
      throw Error(where, fmt::format("{} RoPE factors do not match head size {}",
                                     r.freq_factors.size(), head_dim));
    }
    for (const float divisor : r.freq_factors) positive("a RoPE factor", divisor);
  }
  if (activation.kind == backend::ActivationKind::clamped_swiglu) {
    positive("the SwiGLU alpha", activation.alpha);
    positive("the SwiGLU limit", activation.limit);
  }
}

// YaRN, section 3.2: dimensions with more than beta_fast rotations within the original context keep
// their frequency, those with fewer than beta_slow are divided by the factor, with a linear ramp
// between. The magnitude is equation 22. Reference: transformers, modeling_rope_utils.py.
RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t head_dim) {
  const auto dim = static_cast<double>(head_dim);
  const YarnScaling& yarn = rope.yarn;
  RopeFrequencies result;
  double low = 0, high = 0;
  if (yarn.factor != 1) {
    const auto dim_for_rotations = [&](double turns) {
      return dim * std::log(yarn.original_context / (turns * 2 * std::numbers::pi)) /
             (2 * std::log(rope.base));
    };
    low = dim_for_rotations(yarn.beta_fast);
    high = dim_for_rotations(yarn.beta_slow);
    if (yarn.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high) high += 0.001;
    result.magnitude = yarn.factor > 1 ? static_cast<float>(0.1 * std::log(yarn.factor) + 1) : 1.0f;
  }
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(rope.base, -2.0 * static_cast<double>(i) / dim);
    const double ramp =
        yarn.factor == 1 ? 0 : std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double divisor =
        rope.linear_factor * (rope.freq_factors.empty() ? 1.0 : rope.freq_factors[i]);
    result.inv_freq.push_back(
        static_cast<float>((frequency * (1 - ramp) + frequency / yarn.factor * ramp) / divisor));
  }
  return result;
}

}  // namespace mxgpt::model
