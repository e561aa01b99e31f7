#include "engine/scoring_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "runtime/model_runner.h"

namespace mxgpt::engine {

namespace {
int64_t context_of(const model::Config& config, const ScoringOptions& options) {
  const int64_t max_context = config.context;
  if (options.context > max_context) {
    throw Error(field::kContextLength,
                fmt::format("{} exceeds the model's {} tokens", options.context, max_context));
  }
  return options.context ? options.context : std::min(max_context, kDefaultContext);
}
}  // namespace

ScoringSession::ScoringSession(const runtime::Model& model, const ScoringOptions& options)
    : ScoringSession(model.config(), options,
                     model.create_runner(runner_options(model.config(), options))) {}

runtime::RunnerOptions ScoringSession::runner_options(const model::Config& config,
                                                      const ScoringOptions& options) {
  const int64_t context = context_of(config, options);
  const int64_t max_tokens = std::min(options.max_batched_tokens, context);
  return {.device = options.device,
          .vram_budget = options.vram_budget,
          .precision = options.precision,
          .accum_type = options.accum_type,
          .kv_format = options.kv_format,
          .max_batched_tokens = max_tokens,
          .max_logit_rows = options.all_logits ? max_tokens : 1,
          .kv_pages = {max_pages_per_sequence(context, 0, max_tokens),
                       max_pages_per_sequence(context, config.window, max_tokens)},
          .activation_hook = options.activation_hook};
}

ScoringSession::ScoringSession(const model::Architecture& architecture, const model::Config& config,
                               const model::Weights& weights, const ScoringOptions& options)
    : ScoringSession(
          config, options,
          runtime::create_runner(architecture, config, weights, runner_options(config, options))) {}

ScoringSession::ScoringSession(const model::Config& config, const ScoringOptions& options,
                               std::unique_ptr<runtime::Runner> runner)
    : config_(config),
      context_(context_of(config, options)),
      max_batched_tokens_(std::min(options.max_batched_tokens, context_)),
      all_logits_(options.all_logits),
      pools_{PagePool(max_pages_per_sequence(context_, 0, max_batched_tokens_)),
             PagePool(max_pages_per_sequence(context_, config.window, max_batched_tokens_))},
      runner_(std::move(runner)) {
  const int64_t windows[backend::kKvGroups] = {0, config_.window};
  for (int g = 0; g < backend::kKvGroups; ++g) {
    page_tables_[g].resize(pages_for(context_));
    kv_groups_.emplace_back(pools_[g], windows[g], page_tables_[g]);
  }
}

std::span<const float> ScoringSession::feed(std::span<const int32_t> tokens,
                                            const OnLogits& on_logits,
                                            const std::function<bool()>& cancelled) {
  MXGPT_CHECK(!tokens.empty() && (all_logits_ || !on_logits), "{} tokens", tokens.size());
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config_.vocabulary) {
      throw Error("tokens",
                  fmt::format("{} is outside the vocabulary of {}", token, config_.vocabulary));
    }
  }
  if (size() + static_cast<int64_t>(tokens.size()) > context_) {
    throw Error(
        field::kContextLength,
        fmt::format("{} tokens do not fit into a context of {}", size() + tokens.size(), context_),
        "raise the context length or shorten the text");
  }
  std::span<const float> logits;
  while (!tokens.empty()) {
    if (cancelled && cancelled()) return {};
    const auto num_tokens =
        std::min<int64_t>(max_batched_tokens_, static_cast<int64_t>(tokens.size()));
    const int64_t begin = size();
    for (SequencePages& group : kv_groups_) {
      MXGPT_CHECK(group.reserve(begin + num_tokens), "out of pages at {} + {}", begin, num_tokens);
    }
    std::vector<int32_t> positions(num_tokens), logit_rows;
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    const bool last = num_tokens == static_cast<int64_t>(tokens.size());
    if (on_logits) {
      logit_rows.resize(num_tokens);
      std::iota(logit_rows.begin(), logit_rows.end(), 0);
    } else if (last) {
      logit_rows.push_back(static_cast<int32_t>(num_tokens - 1));
    }
    const std::vector<int32_t> sequences(num_tokens, 0);
    backend::Batch batch{.tokens = tokens.first(num_tokens),
                         .positions = positions,
                         .sequences = sequences,
                         .logit_rows = logit_rows};
    for (int g = 0; g < backend::kKvGroups; ++g) batch.tables[g] = {page_tables_[g].data(), 0};
    logits = runner_->step(batch);
    if (on_logits) {
      for (int64_t row = 0; row < num_tokens; ++row) {
        on_logits(begin + row, logits.subspan(row * config_.vocabulary, config_.vocabulary));
      }
    }
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + num_tokens);
    trim(size());
    tokens = tokens.subspan(num_tokens);
  }
  return logits.last(config_.vocabulary);
}

void ScoringSession::trim(int64_t end) {
  for (SequencePages& group : kv_groups_) group.trim(end);
}

int64_t ScoringSession::rewind_to_common_prefix(std::span<const int32_t> tokens) {
  int64_t common = 0;
  const int64_t limit = std::min<int64_t>(size(), static_cast<int64_t>(tokens.size()) - 1);
  while (common < limit && tokens_[common] == tokens[common]) ++common;
  const bool can_continue =
      std::all_of(kv_groups_.begin(), kv_groups_.end(),
                  [&](const SequencePages& group) { return group.can_continue_at(common); });
  if (!can_continue) common = 0;
  tokens_.resize(common);
  trim(common);
  return common;
}

void ScoringSession::reset() {
  tokens_.clear();
  trim(0);
}

}  // namespace mxgpt::engine
