// From logits to the next token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/sampling.h"
#include "engine/logits.h"

namespace mxgpt::engine {

/// Applied in this order: bias, penalties, temperature, top-k, top-p, min-p.
struct SamplingParams {
  double temperature = 1;         ///< 0 to 2; 0 is greedy
  int64_t top_k = 0;              ///< keep the k most probable tokens; 0: all
  double top_p = 1;               ///< keep the smallest set with this total probability
  double min_p = 0;               ///< keep tokens of at least this fraction of the top probability
  double repetition_penalty = 1;  ///< applied to prompt and output tokens (Keskar et al. 2019)
  double presence_penalty = 0;    ///< subtracted for each token that the output contains
  double frequency_penalty = 0;   ///< subtracted per occurrence in the output
  uint64_t seed = 0;
  std::unordered_map<int32_t, double> logit_bias;  ///< added to the logits; -100 to 100

  /// Throws Error, naming the first parameter out of range. `vocabulary` bounds the tokens of the
  /// bias.
  void check(int64_t vocabulary) const;
};

/// Samples the tokens of one choice. The random number of a token depends only on the seed, the
/// choice and the index of the token, so the same logits give the same tokens.
class Sampler {
 public:
  /// `choice` distinguishes the choices of a request.
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int choice = 0);

  /// Samples from the tokens in the bitmask `allowed` (token t is bit t % 32 of word t / 32), or
  /// from all tokens if it is empty. Returns nothing if a logit is NaN or the maximum is not
  /// finite.
  std::optional<int32_t> sample(std::span<const float> logits,
                                std::span<const uint32_t> allowed = {});

  /// Parameters to sample the same token on a device, without a mask. Appends to `edits`. Call
  /// accept() afterwards.
  backend::RowSampling device_sampling(std::vector<backend::LogitEdit>& edits) const;
  /// Records the sampled token.
  void accept(int32_t token);

 private:
  struct TokenCounts {
    bool in_prompt = false;
    int64_t output_count = 0;
  };

  /// Logits after bias, penalties and mask; the input itself if there are none.
  std::span<const float> apply_logit_edits(std::span<const float> logits,
                                           std::span<const uint32_t> allowed);
  float penalty(const TokenCounts& counts) const;
  /// 1 / temperature, which is not 0.
  float inverse_temperature() const;
  int32_t sample_filtered(std::span<const float> logits, float max_logit, float scale, double u);

  SamplingParams params_;
  uint64_t rng_stream_;  // of random numbers
  std::unordered_map<int32_t, TokenCounts> token_counts_;
  uint64_t samples_ = 0;
  std::vector<float> logits_;
  std::vector<Candidate> candidates_;
  std::vector<Candidate> ranked_;
};

}  // namespace mxgpt::engine
