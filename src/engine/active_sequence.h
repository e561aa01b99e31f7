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

/// What the choices of a request share.
struct ActiveRequest {
  Request request;
  std::shared_ptr<StreamState> stream;
  std::chrono::steady_clock::time_point submitted;
  int open_choices = 0;  ///< choices that have not ended
};

struct ActiveSequence : Sequence {
  ActiveSequence(std::shared_ptr<ActiveRequest> request, int choice, int64_t context);

  /// Guesses what the next tokens will be: drafts, as far as they pay in a step of `rows` rows.
  void speculate(const StepCostModel& cost, int64_t rows);

  /// Draws from the last of the rows that a step computed of it: as many tokens as the drafts were
  /// right, and one. `logits` are those of slice.logit_rows rows. Appends to `tokens`, leaves
  /// events and, if it has ended, why. Answers may draw in parallel.
  void sample_tokens(const ScheduledChunk& chunk, std::span<const float> logits, int64_t vocabulary,
                     int64_t max_repeated);

  std::shared_ptr<ActiveRequest> shared;
  const int choice;
  const int64_t max_length;  ///< tokens of prompt and answer
  int64_t new_tokens = 0;    ///< tokens in the last step
  bool deferred = false;     ///< the last step sampled nothing: its constraint was not ready
  std::vector<StreamEvent> events;
  std::optional<FinishReason> finish_reason;
  std::string error;  ///< of an error
  size_t index = 0;   ///< in the engine's list
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
