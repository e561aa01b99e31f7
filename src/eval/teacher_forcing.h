// Teacher-forced scoring: the model processes given tokens, and each token is scored by the
// distribution that its predecessors give.
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

/// Tokens that the model sees together, with no preceding context. All but the first are scored.
struct Chunk {
  int64_t document;
  std::vector<int32_t> tokens;
};

/// Splits each document into chunks of `length` tokens. The last chunk of a document may be
/// shorter; chunks of one token are dropped. With `bos`, every chunk begins with it, which counts
/// towards `length`.
std::vector<Chunk> split_into_chunks(const Documents& documents, int64_t length,
                                     std::optional<int32_t> bos = {});

/// Chunks with at most `tokens` scored tokens in total, but at least one chunk, spread evenly over
/// the text.
std::vector<Chunk> sample_chunks(std::vector<Chunk> chunks, int64_t tokens);

/// Number of scored tokens: all but the first of each chunk.
int64_t count_scored_tokens(std::span<const Chunk> chunks);

/// Independent samples of text: documents or, if there are fewer than kMinDocuments, chunks.
struct Clusters {
  bool documents;
  int64_t count;
  std::vector<int32_t> cluster_of_chunk;  ///< [chunks], ascending from 0
};
inline constexpr int64_t kMinDocuments = 30;
Clusters cluster_chunks(std::span<const Chunk> chunks);

int64_t max_chunk_length(std::span<const Chunk> chunks);

/// Tokens per step such that logits and all residual streams take at most 64 MB.
int64_t tokens_per_step(const model::Config& config);

/// Feeds chunks to a model, which must outlive the scorer.
class TeacherForcedScorer {
 public:
  /// `options.context` is the maximum chunk length; `options.max_rows` limits the tokens per
  /// step().
  TeacherForcedScorer(const runtime::Model& model, engine::ScoringOptions options);

  /// Starts a new chunk, with an empty context.
  void begin_chunk() { session_.reset(); }
  /// Processes the next tokens. Returns the logits of each, valid until the next step. Throws
  /// Error, naming the model, if a logit is not finite.
  std::span<const std::span<const float>> step(std::span<const int32_t> tokens);

 private:
  const runtime::Model& model_;
  engine::ScoringSession session_;
  std::vector<std::span<const float>> logits_;
};

/// ln Σ exp(logits) in double; NaN if a logit is NaN or +infinity.
double log_sum_exp(std::span<const float> logits);

struct Perplexity {
  Estimate nll;  ///< mean over scored tokens of -ln p(token), in nats
  double value() const;
  /// Delta method: d exp(x) / dx = exp(x).
  double standard_error() const;
};

/// Scores all chunks. Calls `progress` with the number of tokens processed.
Perplexity perplexity(const runtime::Model& model, engine::ScoringOptions options,
                      std::span<const Chunk> chunks, const std::function<void(int64_t)>& progress);

}  // namespace mxgpt::eval
