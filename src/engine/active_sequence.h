// One choice of a request on its way through the engine.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/prompt_lookup.h"
#include "engine/repetition_detector.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/token_stream.h"

namespace mxgpt::engine {

/// State that all choices of a request share.
struct ActiveRequest {
  Request request;
  std::shared_ptr<StreamState> stream;
  std::chrono::steady_clock::time_point submitted;
  int open_choices = 0;  ///< choices that have not finished
};

struct ActiveSequence : Sequence {
  ActiveSequence(std::shared_ptr<ActiveRequest> request, int choice, int64_t context);

  /// Proposes draft tokens, up to the number that is profitable for a step of `rows` tokens.
  void speculate(const StepCostModel& cost, int64_t rows);

  /// Samples from this sequence's logit rows: one token per accepted draft plus one. `logits` is
  /// [chunk.logit_rows, vocabulary]. Appends to `tokens` and `events`, and sets `finish_reason` if
  /// the sequence ends. Thread-safe across sequences.
  void sample_tokens(const ScheduledChunk& chunk, std::span<const float> logits, int64_t vocabulary,
                     int64_t max_repeated);

  std::shared_ptr<ActiveRequest> shared;
  const int choice;
  const int64_t max_length;  ///< limit on prompt and output tokens
  int64_t new_tokens = 0;    ///< tokens sampled in the last step
  bool deferred = false;     ///< the last step sampled nothing: its constraint was not ready
  std::vector<StreamEvent> events;
  std::optional<FinishReason> finish_reason;
  std::string error;  ///< set if finish_reason is an error
  size_t index = 0;   ///< position in the engine's list
  std::optional<std::chrono::steady_clock::time_point> started_at, first_token_at;

  std::span<const int32_t> output_tokens() const {
    return std::span(tokens).subspan(prompt_length);
  }
  /// Null if there is none.
  TokenConstraint* constraint() const {
    const auto& all = shared->request.constraints;
    return all.empty() ? nullptr : all[choice].get();
  }

 private:
  bool sample_one(std::span<const float> logits, int64_t max_repeated);
  void set_finished(FinishReason reason, std::string message = {});

  Sampler sampler_;
  RepetitionDetector repetition_detector_;
  AdaptiveDraftLength draft_length_;
  std::vector<uint32_t> allowed_mask_;
  int64_t next_prompt_score_ =
      1;  // tokens of the prompt that need no score any more; the first has none
};

}  // namespace mxgpt::engine
