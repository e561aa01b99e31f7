#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace mxgpt {

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

namespace {

/// SplitMix64's output function (Steele, Lea & Flood 2014): a bijection that scatters its bits.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// In [0, 1), from a counter.
double uniform(uint64_t stream, uint64_t index) {
  return static_cast<double>(mix(stream + index) >> 11) * 0x1p-53;
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int choice)
    : params_(params), stream_(mix(mix(params.seed) + static_cast<uint64_t>(choice))) {
  if (params_.repetition_penalty != 1) {
    for (const int32_t token : prompt) seen_[token].in_prompt = true;
  }
}

std::optional<int32_t> Sampler::sample(std::span<const float> input,
                                       std::span<const uint32_t> allowed) {
  logits_.assign(input.begin(), input.end());
  for (const auto& [token, bias] : params_.logit_bias) logits_[token] += static_cast<float>(bias);
  for (const auto& [token, seen] : seen_) {
    float& logit = logits_[token];
    const auto repetition = static_cast<float>(params_.repetition_penalty);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (seen.in_answer) {
      logit -= static_cast<float>(params_.presence_penalty +
                                  params_.frequency_penalty * static_cast<double>(seen.in_answer));
    }
  }
  for (size_t i = 0; i < logits_.size() && !allowed.empty(); ++i) {
    if (!(allowed[i / 32] >> i % 32 & 1)) logits_[i] = -std::numeric_limits<float>::infinity();
  }
  const auto best = std::max_element(logits_.begin(), logits_.end());
  if (!std::isfinite(*best) ||
      std::any_of(logits_.begin(), logits_.end(), [](float l) { return std::isnan(l); })) {
    return std::nullopt;
  }
  auto token = static_cast<int32_t>(best - logits_.begin());
  const float most = *best;

  if (params_.temperature > 0) {
    candidates_.clear();
    // A candidate below e^-30 of the best cannot be drawn in practice, and sorting it costs.
    const auto cutoff = most - static_cast<float>(30 * params_.temperature);
    for (size_t i = 0; i < logits_.size(); ++i) {
      if (logits_[i] >= cutoff) candidates_.push_back({logits_[i], static_cast<int32_t>(i)});
    }
    const auto likelier = [](const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    };
    if (params_.top_k > 0 && params_.top_k < static_cast<int64_t>(candidates_.size())) {
      std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(),
                       likelier);
      candidates_.resize(params_.top_k);
    }
    std::sort(candidates_.begin(), candidates_.end(), likelier);
    const auto weight = [&](const Candidate& c) {
      return std::exp((c.logit - most) / params_.temperature);
    };
    double total = 0;
    for (const Candidate& c : candidates_) total += weight(c);
    double kept = 0;
    size_t count = 0;
    while (count < candidates_.size()) {
      const double w = weight(candidates_[count]);
      if (count > 0 && (kept >= params_.top_p * total || w < params_.min_p)) break;
      kept += w;
      ++count;
    }
    double left = uniform(stream_, draws_) * kept;
    size_t drawn = 0;
    while (drawn + 1 < count && (left -= weight(candidates_[drawn])) >= 0) ++drawn;
    token = candidates_[drawn].token;
  }
  ++draws_;
  ++seen_[token].in_answer;
  return token;
}

}  // namespace mxgpt
