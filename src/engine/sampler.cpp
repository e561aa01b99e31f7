#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/draw.h"
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

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int choice)
    : params_(params), stream_(stream_of(params.seed, choice)) {
  if (params_.repetition_penalty != 1) {
    for (const int32_t token : prompt) seen_[token].in_prompt = true;
  }
}

std::span<const float> Sampler::edit(std::span<const float> logits,
                                     std::span<const uint32_t> allowed) {
  if (allowed.empty() && params_.logit_bias.empty() && seen_.empty()) return logits;
  logits_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params_.logit_bias) logits_[token] += static_cast<float>(bias);
  for (const auto& [token, seen] : seen_) {
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
  const std::span<const float> logits = edit(input, allowed);
  float most = peak(input);
  // A mask may hide what is no number.
  if (!std::isfinite(most)) return std::nullopt;
  if (logits.data() != input.data()) most = peak(logits);
  if (!std::isfinite(most)) return std::nullopt;
  const double share = uniform(stream_, draws_);
  int32_t token = 0;
  if (params_.temperature == 0) {
    token = first_at(logits, most);
  } else {
    const bool all = params_.top_k == 0 && params_.top_p == 1 && params_.min_p == 0;
    token = all ? token_at_share(logits, most, scale(), share)
                : draw_filtered(logits, most, scale(), share);
  }
  take(token);
  return token;
}

void Sampler::take(int32_t token) {
  ++draws_;
  if (params_.repetition_penalty != 1 || params_.presence_penalty != 0 ||
      params_.frequency_penalty != 0) {
    ++seen_[token].in_answer;
  }
}

float Sampler::scale() const {
  // Colder than this is as good as 0, and overflows.
  return static_cast<float>(std::min(1 / params_.temperature, 1e6));
}

float Sampler::penalty(const Seen& seen) const {
  return seen.in_answer
             ? static_cast<float>(params_.presence_penalty +
                                  params_.frequency_penalty * static_cast<double>(seen.in_answer))
             : 0.0f;
}

cuda::DrawRow Sampler::next(std::vector<cuda::LogitEdit>& edits) const {
  const auto first = static_cast<int32_t>(edits.size());
  for (const auto& [token, seen] : seen_) {
    const auto bias = params_.logit_bias.find(token);
    edits.push_back(
        {.token = token,
         .bias = bias == params_.logit_bias.end() ? 0.0f : static_cast<float>(bias->second),
         .repetition = static_cast<float>(params_.repetition_penalty),
         .penalty = penalty(seen)});
  }
  for (const auto& [token, bias] : params_.logit_bias) {
    if (!seen_.contains(token))
      edits.push_back({.token = token, .bias = static_cast<float>(bias), .repetition = 1});
  }
  return {.scale = params_.temperature == 0 ? 0 : scale(),
          .top_k = static_cast<int32_t>(params_.top_k),
          .top_p = params_.top_p,
          .min_p = params_.min_p,
          .share = uniform(stream_, draws_),
          .first_edit = first,
          .edits = static_cast<int32_t>(edits.size()) - first,
          .mask = -1};
}

namespace {

uint64_t sum(std::span<const Candidate> candidates) {
  uint64_t total = 0;
  for (const Candidate& c : candidates) total += whole(c.weight);
  return total;
}

/// The least likely of the fewest candidates whose weights reach `enough`. Halves what it is among,
/// and so need not sort it.
Candidate last_to_reach(uint64_t enough, std::span<Candidate> candidates) {
  uint64_t kept = 0;
  auto begin = candidates.begin(), end = candidates.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, likelier);
    const uint64_t first_half = sum({begin, middle});
    if (kept + first_half >= enough) {
      end = middle;
    } else {
      kept += first_half;
      begin = middle;
    }
  }
  return *begin;
}

}  // namespace

int32_t Sampler::draw_filtered(std::span<const float> logits, float most, float scale,
                               double share) {
  const auto k = static_cast<size_t>(params_.top_k);
  const bool by_share = params_.top_p < 1;
  uint64_t enough =
      by_share && k == 0 ? whole_sum(params_.top_p * sum_weights(logits, most, scale)) : 0;
  // Mostly a few tokens near the best are enough to see what is kept.
  for (const float below : {4.0f, 12.0f, kWeightless}) {
    collect(logits, most, scale, below / scale, candidates_);
    const bool all_found =
        k > 0 ? candidates_.size() >= k
              : std::exp(-below) <= params_.min_p || (by_share && sum(candidates_) >= enough);
    if (all_found) break;
  }
  ranked_ = candidates_;
  if (k > 0 && k < ranked_.size()) {
    std::nth_element(ranked_.begin(), ranked_.begin() + static_cast<int64_t>(k) - 1, ranked_.end(),
                     likelier);
    ranked_.resize(k);
  }
  if (k > 0 && by_share)
    enough = static_cast<uint64_t>(params_.top_p * static_cast<double>(sum(ranked_)));
  // The least likely that is kept: those that are not less so go in order of tokens.
  const Candidate last = by_share ? last_to_reach(enough, ranked_)
                                  : *std::max_element(ranked_.begin(), ranked_.end(), likelier);
  std::erase_if(candidates_, [&](const Candidate& c) {
    return likelier(last, c) || static_cast<double>(c.weight) < params_.min_p;
  });
  const uint64_t total = sum(candidates_);  // the likeliest alone weighs 1
  uint64_t left = std::min(static_cast<uint64_t>(share * static_cast<double>(total)), total - 1);
  size_t drawn = 0;
  for (uint64_t here; left >= (here = whole(candidates_[drawn].weight)); ++drawn) left -= here;
  return candidates_[drawn].token;
}

}  // namespace mxgpt
