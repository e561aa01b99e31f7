// Configuration of a model, read from config.json or GGUF metadata.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/ops.h"

namespace mxgpt::model {

/// YaRN scaling of rotary embeddings (Peng et al. 2023, arXiv 2309.00071); factor 1 means none.
struct YarnScaling {
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;  ///< round the ends of the ramp to whole dimensions

  bool operator==(const YarnScaling&) const = default;
};

/// Rotary embedding of one layer type. At most one of the three scalings is used.
struct RopeConfig {
  double base = 10000;
  YarnScaling yarn;
  double linear_factor = 1;         ///< divides positions (Chen et al. 2023)
  std::vector<float> freq_factors;  ///< [head_dim / 2]: divide frequencies (Llama 3); or empty

  bool operator==(const RopeConfig&) const = default;
};

struct Config {
  std::string architecture;  ///< GGUF name: "gpt-oss"
  std::string name;          ///< human-readable; may be empty
  int64_t vocabulary = 0;
  int64_t context = 0;  ///< maximum sequence length
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models
  int64_t window = 0;              ///< keys that a sliding layer sees, itself included
  std::vector<bool> is_sliding;    ///< [layers]
  double norm_eps = 1e-5;
  double embedding_scale = 1;  ///< factor on embeddings
  double attention_scale = 0;  ///< factor on scores; 0: 1 / sqrt(head_dim)
  backend::Activation activation;
  backend::RopeStyle rope_style = backend::RopeStyle::neox;
  std::array<RopeConfig, backend::kKvGroups> rope;  ///< by KvGroup

  const RopeConfig& rope_for(backend::KvGroup group) const { return rope[static_cast<int>(group)]; }
  backend::KvGroup kv_group(int64_t layer) const {
    return is_sliding[layer] ? backend::KvGroup::window : backend::KvGroup::full;
  }

  /// Throws Error, naming `where` and the first invalid value: a size out of range, heads that do
  /// not divide, top_k above the number of experts. Called for everything read from a file.
  void check(const std::string& where) const;
};

/// Angle per position of each rotated pair, [head_dim / 2], and the factor on cos and sin.
struct RopeFrequencies {
  std::vector<float> inv_freq;
  float magnitude = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t head_dim);

}  // namespace mxgpt::model
