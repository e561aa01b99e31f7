// One choice of a request on its way through the engine.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/prompt_lookup.h"
#include "engine/repetition.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/token_stream.h"

namespace mxgpt {

/// What the choices of a request share.
struct SharedRequest {
  Request request;
  std::shared_ptr<StreamState> stream;
  std::chrono::steady_clock::time_point submitted;
  int open = 0;  ///< choices that have not ended
};

struct Answer : Sequence {
  Answer(std::shared_ptr<SharedRequest> of, int choice, int64_t context);

  /// Guesses what the next tokens will be: drafts, as far as they pay in a step of `rows` rows.
  void propose(const StepCost& cost, int64_t rows);

  /// Draws from the last of the rows that a step computed of it: as many tokens as the drafts were
  /// right, and one. `logits` are those of slice.logit_rows rows. Appends to `tokens`, leaves
  /// events and, if it has ended, why. Answers may draw in parallel.
  void draw(const Slice& slice, std::span<const float> logits, int64_t vocabulary,
            int64_t repetition);

  std::shared_ptr<SharedRequest> shared;
  const int choice;
  const int64_t most;  ///< tokens of prompt and answer
  int64_t drawn = 0;   ///< tokens in the last step
  std::vector<StreamEvent> events;
  std::optional<Finish> finish;
  std::string what;  ///< of an error
  size_t index = 0;  ///< in the engine's list
  std::optional<std::chrono::steady_clock::time_point> begun, first_token;

  std::span<const int32_t> answer() const { return std::span(tokens).subspan(prompt); }

 private:
  bool draw_one(std::span<const float> logits, int64_t repetition);
  void end(Finish why, std::string error = {});

  Sampler sampler_;
  Repetition repetition_;
  DraftPolicy drafting_;
  std::vector<uint32_t> allowed_;
  int64_t scored_ = 1;  // tokens of the prompt that need no score any more; the first has none
};

}  // namespace mxgpt
