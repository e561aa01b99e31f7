// The numbers that describe a model, read from a checkpoint's config.json or a GGUF file's
// metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mxgpt {

/// YaRN scaling of rotary embeddings (Peng et al. 2023, arXiv 2309.00071); factor 1 means none.
struct YarnScaling {
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;  ///< whether the ramp's ends are rounded to whole dimensions
};

struct Config {
  std::string architecture;  ///< as GGUF files name it: "gpt-oss"
  std::string name;          ///< for people; may be empty
  int64_t vocabulary = 0;
  int64_t context = 0;  ///< longest sequence it was made for
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models
  int64_t window = 0;              ///< keys that a sliding layer sees, itself included
  std::vector<bool> sliding;       ///< [layers]
  double norm_eps = 1e-5;
  double rope_base = 10000;
  YarnScaling yarn;
  double swiglu_alpha = 1.702, swiglu_limit = 7;

  /// Throws Error naming `where` and the first value that no model can have: sizes out of range,
  /// heads that do not divide, more chosen experts than there are. Everything read from a file
  /// passes here.
  void check(const std::string& where) const;
};

/// Angles a position of each rotated pair, [head_dim / 2], and the factor on cos and sin.
struct RopeFrequencies {
  std::vector<float> inverse;
  float magnitude = 1;
};
RopeFrequencies rope_frequencies(double base, int64_t head_dim, const YarnScaling& yarn);

}  // namespace mxgpt
