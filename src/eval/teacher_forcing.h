// Teacher-forced scoring: given tokens go through a model, and every one is judged by the
// distribution that the tokens before it led to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/scoring_session.h"
#include "eval/statistics.h"

namespace mxgpt::eval {

using Documents = std::vector<std::vector<int32_t>>;

/// Tokens that a model sees together, and nothing before them. All but the first are scored.
struct Chunk {
  int64_t document;
  std::vector<int32_t> tokens;
};

/// Cuts each document into pieces of `length` tokens; the last may be shorter, and a piece of one
/// token is left out. With `bos`, every piece begins with it (and is no longer for it).
std::vector<Chunk> split_into_chunks(const Documents& documents, int64_t length,
                                     std::optional<int32_t> bos = {});

/// As many pieces as score at most `tokens`, but at least one, spread evenly over all of them.
std::vector<Chunk> sample_chunks(std::vector<Chunk> chunks, int64_t tokens);

/// Tokens that are scored: all but the first of each piece.
int64_t count_scored_tokens(std::span<const Chunk> chunks);

/// What counts as one independent sample of text: a document, or, where there are too few of them
/// for an interval, a piece.
struct Clusters {
  bool documents;
  int64_t count;
  std::vector<int32_t> cluster_of_chunk;  ///< [pieces], ascending from 0
};
inline constexpr int64_t kMinDocuments = 30;
Clusters cluster_chunks(std::span<const Chunk> chunks);

int64_t max_chunk_length(std::span<const Chunk> chunks);

/// Rows a step for which logits, and a residual stream of each layer, stay below 64 MB.
int64_t tokens_per_step(const model::Config& config);

/// A model that is fed pieces. The model must outlive it.
class TeacherForcedScorer {
 public:
  /// `options.context` is the length of the longest piece, `options.max_rows` the most tokens that
  /// are given to step().
  TeacherForcedScorer(const runtime::Model& model, engine::ScoringOptions options);

  /// Forgets what it was fed.
  void begin_chunk() { session_.reset(); }
  /// Feeds the next tokens; the logits of each, valid until the next step. Throws Error, naming the
  /// model, if one is not finite.
  std::span<const std::span<const float>> step(std::span<const int32_t> tokens);

 private:
  const runtime::Model& model_;
  engine::ScoringSession session_;
  std::vector<std::span<const float>> logits_;
};

/// ln Σ exp(logits), accurate to double; NaN if a logit is NaN or +infinity.
double log_sum_exp(std::span<const float> logits);

struct Perplexity {
  Estimate nll;  ///< mean over scored tokens of -ln p(token), in nats
  double value() const;
  /// exp has the slope exp: the error of nll times the value (delta method).
  double standard_error() const;
};

/// Scores all pieces; `progress` hears of tokens done. `options` says how the model computes.
Perplexity perplexity(const runtime::Model& model, engine::ScoringOptions options,
                      std::span<const Chunk> chunks, const std::function<void(int64_t)>& progress);

}  // namespace mxgpt::eval
