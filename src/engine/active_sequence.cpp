#include "engine/active_sequence.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "engine/logprobs.h"

namespace mxgpt::engine {

namespace {

int64_t max_sequence_length(const Request& request, int64_t context) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  return std::min(context - prompt, request.max_tokens.value_or(context)) + prompt;
}

}  // namespace

ActiveSequence::ActiveSequence(std::shared_ptr<ActiveRequest> request, int number, int64_t context)
    : shared(std::move(request)),
      choice(number),
      max_length(max_sequence_length(shared->request, context)),
      sampler_(shared->request.sampling, shared->request.prompt, number) {
  tokens = shared->request.prompt;
  prompt_length = static_cast<int64_t>(tokens.size());
  score_prompt = shared->request.prompt_logprobs && choice == 0;
  priority = shared->request.priority;
  waits_for_leader = choice > 0;
}

void ActiveSequence::set_finished(FinishReason reason, std::string message) {
  finish_reason = reason;
  error = std::move(message);
}

void ActiveSequence::speculate(const StepCostModel& cost, int64_t rows) {
  draft_tokens.clear();
  // Leave room for the token sampled after the last draft.
  const int64_t available = max_length - static_cast<int64_t>(tokens.size()) - 1;
  const int64_t count = std::min(available, draft_length_.length(cost, rows));
  if (count > 0) draft_tokens = propose_ngram_drafts(tokens, count);
}

void ActiveSequence::sample_tokens(const ScheduledChunk& chunk, std::span<const float> logits,
                                   int64_t vocabulary, int64_t max_repeated) {
  new_tokens = 0;
  deferred = false;
  const int64_t known = static_cast<int64_t>(tokens.size());
  // Index of the token that the first row of logits predicts.
  int64_t next = computed + chunk.num_tokens - chunk.logit_rows + 1;
  for (int64_t row = 0; row < chunk.logit_rows; ++row, ++next) {
    const auto row_logits = logits.subspan(row * vocabulary, vocabulary);
    if (next < known && score_prompt && next >= next_prompt_score_ && next < prompt_length) {
      TokenScore s =
          compute_logprobs(row_logits, tokens[next], shared->request.top_logprobs.value_or(0));
      events.emplace_back(PromptToken{next, tokens[next], s.logprob, std::move(s.top)});
      next_prompt_score_ = next + 1;
    }
    if (next < known) continue;
    if (known == max_length) return set_finished(FinishReason::length);  // no output requested
    TokenConstraint* const c = constraint();
    if (c && !c->prepare()) {
      deferred = new_tokens == 0;
      break;
    }
    const int64_t draft_index = next - known;
    if (!sample_one(row_logits, max_repeated)) return;
    if (draft_index == chunk.num_drafts || tokens.back() != draft_tokens[draft_index]) break;
  }
  if (computed + chunk.num_tokens >= prompt_length) score_prompt = false;
  if (deferred) return;
  if (chunk.num_drafts > 0) {
    draft_length_.update(chunk.num_drafts, new_tokens - 1);
  } else if (new_tokens > 0) {
    draft_length_.recover();
  }
}

bool ActiveSequence::sample_one(std::span<const float> logits, int64_t max_repeated) {
  const Request& request = shared->request;
  TokenConstraint* const c = constraint();
  bool may_continue = true;
  try {
    std::span<const uint32_t> allowed;
    if (c) {
      allowed_mask_.assign((logits.size() + 31) / 32, 0);
      if (c->mask(allowed_mask_)) {
        if (logits.size() % 32) allowed_mask_.back() &= (1u << logits.size() % 32) - 1;
        allowed = allowed_mask_;
        if (std::all_of(allowed.begin(), allowed.end(), [](uint32_t word) { return word == 0; })) {
          set_finished(FinishReason::constraint, "no token satisfies the constraint on the output");
          return false;
        }
      }
    }
    const std::optional<int32_t> token = sampler_.sample(logits, allowed);
    if (!token) {
      set_finished(FinishReason::degenerate,
                   "logits are not finite: the model file is damaged, or values overflowed");
      return false;
    }
    tokens.push_back(*token);
    ++new_tokens;
    ChoiceToken event{.choice = choice, .token = *token};
    if (request.top_logprobs) {
      TokenScore s = compute_logprobs(logits, *token, *request.top_logprobs);
      event.logprob = s.logprob;
      event.top = std::move(s.top);
    }
    events.emplace_back(std::move(event));
    may_continue = !c || c->accept(*token);
  } catch (const ConstraintTimeout& timeout) {
    set_finished(FinishReason::grammar_timeout, timeout.what());
    return false;
  } catch (const std::exception& exception) {
    set_finished(FinishReason::constraint, exception.what());
    return false;
  }
  const auto& stops = request.stop_tokens;
  const int64_t repeated = repetition_detector_.push(output_tokens());
  if (!may_continue || std::find(stops.begin(), stops.end(), tokens.back()) != stops.end()) {
    set_finished(FinishReason::stop);
  } else if (static_cast<int64_t>(tokens.size()) >= max_length) {
    set_finished(FinishReason::length);
  } else if (max_repeated && repeated >= max_repeated) {
    set_finished(FinishReason::degenerate,
                 fmt::format("the last {} tokens repeat a short cycle", repeated));
  }
  return !finish_reason;
}

}  // namespace mxgpt::engine
