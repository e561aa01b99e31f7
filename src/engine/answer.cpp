#include "engine/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "engine/logprobs.h"

namespace mxgpt {

namespace {

int64_t most_tokens(const Request& request, int64_t context) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  return std::min(context - prompt, request.max_tokens.value_or(context)) + prompt;
}

}  // namespace

Answer::Answer(std::shared_ptr<SharedRequest> of, int number, int64_t context)
    : shared(std::move(of)),
      choice(number),
      most(most_tokens(shared->request, context)),
      sampler_(shared->request.sampling, shared->request.prompt, number) {
  tokens = shared->request.prompt;
  prompt = static_cast<int64_t>(tokens.size());
  score_prompt = shared->request.prompt_logprobs && choice == 0;
  priority = shared->request.priority;
  follows = choice > 0;
}

void Answer::end(Finish why, std::string error) {
  finish = why;
  what = std::move(error);
}

void Answer::propose(const StepCost& cost, int64_t rows) {
  drafts.clear();
  // What is drawn after the last draft must have room too.
  const int64_t room = most - static_cast<int64_t>(tokens.size()) - 1;
  const int64_t count = std::min(room, drafting_.count(cost, rows));
  if (count > 0) drafts = look_up(tokens, count);
}

void Answer::draw(const Slice& slice, std::span<const float> logits, int64_t vocabulary,
                  int64_t repetition) {
  drawn = 0;
  const int64_t known = static_cast<int64_t>(tokens.size());
  // The token that the first row of logits predicts.
  int64_t next = computed + slice.rows - slice.logit_rows + 1;
  for (int64_t row = 0; row < slice.logit_rows; ++row, ++next) {
    const auto of_row = logits.subspan(row * vocabulary, vocabulary);
    if (next < known && score_prompt && next >= scored_ && next < prompt) {
      Scored s = score(of_row, tokens[next], shared->request.top_logprobs.value_or(0));
      events.emplace_back(PromptToken{next, tokens[next], s.logprob, std::move(s.top)});
      scored_ = next + 1;
    }
    if (next < known) continue;
    if (known == most) return end(Finish::length);  // of an answer without tokens
    const int64_t draft = next - known;
    if (!draw_one(of_row, repetition)) return;
    if (draft == slice.drafts || tokens.back() != drafts[draft]) break;
  }
  if (computed + slice.rows >= prompt) score_prompt = false;
  if (slice.drafts > 0) {
    drafting_.learn(slice.drafts, drawn - 1);
  } else if (drawn > 0) {
    drafting_.rest();
  }
}

bool Answer::draw_one(std::span<const float> logits, int64_t repetition) {
  const Request& request = shared->request;
  TokenConstraint* constraint =
      request.constraints.empty() ? nullptr : request.constraints[choice].get();
  bool more = true;
  try {
    std::span<const uint32_t> allowed;
    if (constraint) {
      allowed_.assign((logits.size() + 31) / 32, 0);
      if (constraint->mask(allowed_)) {
        if (logits.size() % 32) allowed_.back() &= (1u << logits.size() % 32) - 1;
        allowed = allowed_;
        if (std::all_of(allowed.begin(), allowed.end(), [](uint32_t word) { return word == 0; })) {
          end(Finish::constraint, "no token can go on in the form that the answer must have");
          return false;
        }
      }
    }
    const std::optional<int32_t> token = sampler_.sample(logits, allowed);
    if (!token) {
      end(Finish::collapsed,
          "the model's numbers are not finite: its file is damaged, or they overflowed");
      return false;
    }
    tokens.push_back(*token);
    ++drawn;
    ChoiceToken event{.choice = choice, .token = *token};
    if (request.top_logprobs) {
      Scored s = score(logits, *token, *request.top_logprobs);
      event.logprob = s.logprob;
      event.top = std::move(s.top);
    }
    events.emplace_back(std::move(event));
    more = !constraint || constraint->accept(*token);
  } catch (const std::exception& error) {
    end(Finish::constraint, error.what());
    return false;
  }
  const auto& stops = request.stop_tokens;
  const int64_t circling = repetition_.push(answer());
  if (!more || std::find(stops.begin(), stops.end(), tokens.back()) != stops.end()) {
    end(Finish::stop);
  } else if (static_cast<int64_t>(tokens.size()) >= most) {
    end(Finish::length);
  } else if (repetition && circling >= repetition) {
    end(Finish::collapsed,
        fmt::format("the answer has gone round in one short circle for {} tokens", circling));
  }
  return !finish;
}

}  // namespace mxgpt
