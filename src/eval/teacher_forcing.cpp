#include "eval/teacher_forcing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mxgpt::eval {

std::vector<Chunk> split_into_chunks(const Documents& documents, int64_t length,
                                     std::optional<int32_t> bos) {
  MXGPT_CHECK(length >= 2, "chunks of {}", length);
  const int64_t step = length - (bos ? 1 : 0);
  std::vector<Chunk> chunks;
  for (size_t d = 0; d < documents.size(); ++d) {
    const auto size = static_cast<int64_t>(documents[d].size());
    for (int64_t begin = 0; begin < size; begin += step) {
      Chunk chunk{.document = static_cast<int64_t>(d)};
      if (bos) chunk.tokens.push_back(*bos);
      const auto first = documents[d].begin() + begin;
      chunk.tokens.insert(chunk.tokens.end(), first, first + std::min(step, size - begin));
      if (chunk.tokens.size() >= 2) chunks.push_back(std::move(chunk));
    }
  }
  return chunks;
}

std::vector<Chunk> sample_chunks(std::vector<Chunk> chunks, int64_t tokens) {
  const int64_t all = count_scored_tokens(chunks);
  if (all <= tokens) return chunks;
  std::vector<Chunk> picked;
  int64_t seen_tokens = 0, picked_tokens = 0;
  for (Chunk& chunk : chunks) {
    // Pick a chunk once the fraction of the text seen exceeds the fraction of tokens picked.
    const auto size = static_cast<int64_t>(chunk.tokens.size()) - 1;
    const double target =
        static_cast<double>(tokens) * static_cast<double>(seen_tokens) / static_cast<double>(all);
    seen_tokens += size;
    if (picked.empty() ||
        (static_cast<double>(picked_tokens) <= target && picked_tokens + size <= tokens)) {
      picked_tokens += size;
      picked.push_back(std::move(chunk));
    }
  }
  return picked;
}

int64_t count_scored_tokens(std::span<const Chunk> chunks) {
  int64_t tokens = 0;
  for (const Chunk& chunk : chunks) tokens += static_cast<int64_t>(chunk.tokens.size()) - 1;
  return tokens;
}

int64_t max_chunk_length(std::span<const Chunk> chunks) {
  size_t max_length = 0;
  for (const Chunk& chunk : chunks) max_length = std::max(max_length, chunk.tokens.size());
  return static_cast<int64_t>(max_length);
}

Clusters cluster_chunks(std::span<const Chunk> chunks) {
  int64_t documents = 0, last = -1;
  for (const Chunk& chunk : chunks) {
    documents += chunk.document != last;
    last = chunk.document;
  }
  Clusters clusters{.documents = documents >= kMinDocuments};
  clusters.count = clusters.documents ? documents : static_cast<int64_t>(chunks.size());
  int32_t cluster = -1;
  last = -1;
  for (const Chunk& chunk : chunks) {
    if (!clusters.documents || chunk.document != last) ++cluster;
    last = chunk.document;
    clusters.cluster_of_chunk.push_back(cluster);
  }
  return clusters;
}

int64_t tokens_per_step(const model::Config& config) {
  constexpr int64_t kMaxFloats = 16 << 20, kMaxRows = 256;
  const int64_t row = std::max(config.vocabulary, (2 * config.layers + 1) * config.hidden);
  return std::clamp<int64_t>(kMaxFloats / row, 1, kMaxRows);
}

TeacherForcedScorer::TeacherForcedScorer(const runtime::Model& model,
                                         engine::ScoringOptions options)
    : model_(model), session_(model, [&] {
        options.all_logits = true;
        return options;
      }()) {}

std::span<const std::span<const float>> TeacherForcedScorer::step(std::span<const int32_t> tokens) {
  logits_.clear();
  session_.feed(tokens, [&](int64_t position, std::span<const float> logits) {
    bool finite = true;
    for (const float logit : logits) finite &= std::isfinite(logit);
    if (!finite) {
      throw Error(model_.path().string(),
                  fmt::format("the logits at position {} are not finite", position),
                  "check the file with `mxgpt verify`");
    }
    logits_.push_back(logits);
  });
  return logits_;
}

double log_sum_exp(std::span<const float> logits) {
  const float max_logit = *std::max_element(logits.begin(), logits.end());
  double sum_exp = 0;
  for (const float logit : logits) sum_exp += std::exp(static_cast<double>(logit) - max_logit);
  return max_logit + std::log(sum_exp);
}

double Perplexity::value() const {
  return std::exp(nll.value);
}

double Perplexity::standard_error() const {
  return value() * nll.standard_error;
}

Perplexity perplexity(const runtime::Model& model, engine::ScoringOptions options,
                      std::span<const Chunk> chunks, const std::function<void(int64_t)>& progress) {
  options.context = max_chunk_length(chunks);
  options.max_batched_tokens = tokens_per_step(model.config());
  TeacherForcedScorer scorer(model, options);
  const auto rows = static_cast<size_t>(options.max_batched_tokens);
  const Clusters clusters = cluster_chunks(chunks);
  std::vector<double> nll;
  std::vector<int32_t> cluster;
  for (size_t p = 0; p < chunks.size(); ++p) {
    const std::span<const int32_t> tokens = chunks[p].tokens;
    scorer.begin_chunk();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto step_tokens = tokens.subspan(begin, std::min(rows, tokens.size() - begin));
      const auto logits = scorer.step(step_tokens);
      const auto scored = std::min(step_tokens.size(), tokens.size() - 1 - begin);
      const size_t before = nll.size();
      nll.resize(before + scored);
      cluster.resize(nll.size(), clusters.cluster_of_chunk[p]);
      parallel_for(static_cast<int64_t>(scored), [&](int64_t i) {
        nll[before + i] = log_sum_exp(logits[i]) - logits[i][tokens[begin + i + 1]];
      });
      progress(static_cast<int64_t>(step_tokens.size()));
    }
  }
  return {.nll = clustered_mean(nll, cluster)};
}

}  // namespace mxgpt::eval
