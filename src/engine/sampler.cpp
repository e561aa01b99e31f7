#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/sampling_math.h"

namespace mxgpt::engine {

void SamplingParams::check(int64_t vocabulary) const {
  const auto in_range = [](const char* field, double value, double low, double high) {
    if (!(value >= low && value <= high)) {
      throw Error(field, fmt::format("{} is outside {} to {}", value, low, high));
    }
  };
  in_range("temperature", temperature, 0, 2);
  in_range("top_k", static_cast<double>(top_k), 0, 1e9);
  in_range("top_p", top_p, 0, 1);
  in_range("min_p", min_p, 0, 1);
  in_range("repetition_penalty", repetition_penalty, 0.01, 100);
  in_range("presence_penalty", presence_penalty, -2, 2);
  in_range("frequency_penalty", frequency_penalty, -2, 2);
  for (const auto& [token, bias] : logit_bias) {
    in_range("logit_bias", bias, -100, 100);
    if (token < 0 || token >= vocabulary) {
      throw Error("logit_bias",
                  fmt::format("token {} is outside the vocabulary of {}", token, vocabulary));
    }
  }
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int choice)
    : params_(params), rng_stream_(random_stream(params.seed, choice)) {
  if (params_.repetition_penalty != 1) {
    for (const int32_t token : prompt) token_counts_[token].in_prompt = true;
  }
}

std::span<const float> Sampler::apply_logit_edits(std::span<const float> logits,
                                                  std::span<const uint32_t> allowed) {
  if (allowed.empty() && params_.logit_bias.empty() && token_counts_.empty()) return logits;
  logits_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params_.logit_bias) logits_[token] += static_cast<float>(bias);
  for (const auto& [token, seen] : token_counts_) {
    float& logit = logits_[token];
    const auto repetition = static_cast<float>(params_.repetition_penalty);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= penalty(seen);
  }
  for (size_t word = 0; word < allowed.size(); ++word) {
    if (allowed[word] == ~0u) continue;
    for (size_t t = word * 32; t < std::min((word + 1) * 32, logits_.size()); ++t) {
      if (!(allowed[word] >> t % 32 & 1)) logits_[t] = -std::numeric_limits<float>::infinity();
    }
  }
  return logits_;
}

std::optional<int32_t> Sampler::sample(std::span<const float> input,
                                       std::span<const uint32_t> allowed) {
  const std::span<const float> logits = apply_logit_edits(input, allowed);
  float max_logit = find_max_logit(input);
  // Check the input first: a mask may hide a NaN.
  if (!std::isfinite(max_logit)) return std::nullopt;
  if (logits.data() != input.data()) max_logit = find_max_logit(logits);
  if (!std::isfinite(max_logit)) return std::nullopt;
  const double u = uniform(rng_stream_, samples_);
  int32_t token = 0;
  if (params_.temperature == 0) {
    token = find_first(logits, max_logit);
  } else {
    const bool unfiltered = params_.top_k == 0 && params_.top_p == 1 && params_.min_p == 0;
    token = unfiltered ? token_at_cdf(logits, max_logit, inverse_temperature(), u)
                       : sample_filtered(logits, max_logit, inverse_temperature(), u);
  }
  accept(token);
  return token;
}

void Sampler::accept(int32_t token) {
  ++samples_;
  if (params_.repetition_penalty != 1 || params_.presence_penalty != 0 ||
      params_.frequency_penalty != 0) {
    ++token_counts_[token].output_count;
  }
}

float Sampler::inverse_temperature() const {
  // Clamped: lower temperatures would overflow, and already amount to greedy sampling.
  return static_cast<float>(std::min(1 / params_.temperature, 1e6));
}

float Sampler::penalty(const TokenCounts& counts) const {
  return counts.output_count ? static_cast<float>(params_.presence_penalty +
                                                  params_.frequency_penalty *
                                                      static_cast<double>(counts.output_count))
                             : 0.0f;
}

backend::RowSampling Sampler::device_sampling(std::vector<backend::LogitEdit>& edits) const {
  const auto first = static_cast<int32_t>(edits.size());
  for (const auto& [token, seen] : token_counts_) {
    const auto bias = params_.logit_bias.find(token);
    edits.push_back(
        {.token = token,
         .bias = bias == params_.logit_bias.end() ? 0.0f : static_cast<float>(bias->second),
         .repetition = static_cast<float>(params_.repetition_penalty),
         .penalty = penalty(seen)});
  }
  for (const auto& [token, bias] : params_.logit_bias) {
    if (!token_counts_.contains(token))
      edits.push_back({.token = token, .bias = static_cast<float>(bias), .repetition = 1});
  }
  return {.scale = params_.temperature == 0 ? 0 : inverse_temperature(),
          .top_k = static_cast<int32_t>(params_.top_k),
          .top_p = params_.top_p,
          .min_p = params_.min_p,
          .uniform = uniform(rng_stream_, samples_),
          .first_edit = first,
          .edits = static_cast<int32_t>(edits.size()) - first,
          .mask = -1};
}

namespace {

uint64_t total_weight(std::span<const Candidate> candidates) {
  uint64_t total = 0;
  for (const Candidate& c : candidates) total += to_fixed_point(c.weight);
  return total;
}

/// The least probable of the fewest candidates whose total weight reaches `target`. Uses
/// quickselect instead of sorting.
Candidate top_p_cutoff(uint64_t target, std::span<Candidate> candidates) {
  uint64_t cumulative = 0;
  auto begin = candidates.begin(), end = candidates.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, more_probable);
    const uint64_t first_half = total_weight({begin, middle});
    if (cumulative + first_half >= target) {
      end = middle;
    } else {
      cumulative += first_half;
      begin = middle;
    }
  }
  return *begin;
}

}  // namespace

int32_t Sampler::sample_filtered(std::span<const float> logits, float max_logit, float scale,
                                 double u) {
  const auto k = static_cast<size_t>(params_.top_k);
  const bool use_top_p = params_.top_p < 1;
  uint64_t top_p_target =
      use_top_p && k == 0 ? sum_to_fixed_point(params_.top_p * sum_exp(logits, max_logit, scale))
                          : 0;
  // A few top tokens usually suffice to find the kept set.
  for (const float margin : {4.0f, 12.0f, kExpCutoff}) {
    collect_candidates(logits, max_logit, scale, margin / scale, candidates_);
    const bool all_found = k > 0 ? candidates_.size() >= k
                                 : std::exp(-margin) <= params_.min_p ||
                                       (use_top_p && total_weight(candidates_) >= top_p_target);
    if (all_found) break;
  }
  ranked_ = candidates_;
  if (k > 0 && k < ranked_.size()) {
    std::nth_element(ranked_.begin(), ranked_.begin() + static_cast<int64_t>(k) - 1, ranked_.end(),
                     more_probable);
    ranked_.resize(k);
  }
  if (k > 0 && use_top_p)
    top_p_target =
        static_cast<uint64_t>(params_.top_p * static_cast<double>(total_weight(ranked_)));
  // The least probable kept candidate; all at least as probable are kept, in order of token id.
  const Candidate cutoff = use_top_p
                               ? top_p_cutoff(top_p_target, ranked_)
                               : *std::max_element(ranked_.begin(), ranked_.end(), more_probable);
  std::erase_if(candidates_, [&](const Candidate& c) {
    return more_probable(cutoff, c) || static_cast<double>(c.weight) < params_.min_p;
  });
  const uint64_t total = total_weight(candidates_);  // at least 1, the weight of the top token
  uint64_t remaining = std::min(static_cast<uint64_t>(u * static_cast<double>(total)), total - 1);
  size_t chosen = 0;
  for (uint64_t w; remaining >= (w = to_fixed_point(candidates_[chosen].weight)); ++chosen)
    remaining -= w;
  return candidates_[chosen].token;
}

}  // namespace mxgpt::engine
