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
  double temperature = 1;  ///< 0 to 2; 0 takes the most likely token
  int64_t top_k = 0;       ///< keep the k most likely; 0 keeps all
  double top_p = 1;        ///< keep the fewest whose probabilities reach this sum
  double min_p = 0;  ///< keep those of at least this share of the most likely one's probability
  double repetition_penalty = 1;  ///< divides positive and multiplies negative logits of tokens in
                                  ///< the prompt or the answer (Keskar et al. 2019)
  double presence_penalty = 0;    ///< subtracted once for a token in the answer
  double frequency_penalty = 0;   ///< subtracted for each time a token is in the answer
  uint64_t seed = 0;
  std::unordered_map<int32_t, double> logit_bias;  ///< added to the logits; -100 to 100

  /// Throws Error naming the first value out of its range. `vocabulary` bounds the bias's tokens.
  void check(int64_t vocabulary) const;
};

/// Draws the tokens of one answer. The same seed, parameters and logits give the same tokens: the
/// random number of a draw depends on the seed, the choice and the draw's index alone.
class Sampler {
 public:
  /// `choice` tells answers to the same request apart.
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int choice = 0);

  /// Among the tokens of `allowed`, bit t % 32 of word t / 32; empty: all. Nothing if the logits
  /// have no finite maximum or are no numbers: the model has collapsed.
  std::optional<int32_t> sample(std::span<const float> logits,
                                std::span<const uint32_t> allowed = {});

  /// The same draw for a GPU, without a mask; appends to `edits`. take() is to follow.
  backend::RowSampling device_sampling(std::vector<backend::LogitEdit>& edits) const;
  /// The draw brought this token.
  void accept(int32_t token);

 private:
  struct TokenCounts {
    bool in_prompt = false;
    int64_t output_count = 0;
  };

  /// With the bias, penalties and mask applied, if there are any; else the input.
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
