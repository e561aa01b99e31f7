#include "engine/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/error.h"

namespace mxgpt {

namespace {
int64_t context_of(const Config& config, const SessionOptions& options) {
  const int64_t most = config.context;
  if (options.context > most) {
    throw Error("--ctx",
                fmt::format("{} is more than the model's {} tokens", options.context, most));
  }
  return options.context ? options.context : std::min(most, kDefaultContext);
}
}  // namespace

Session::Session(const Model& model, const SessionOptions& options)
    : Session(model.config(), options, model.runner(runner_options(model.config(), options))) {}

RunnerOptions Session::runner_options(const Config& config, const SessionOptions& options) {
  const int64_t context = context_of(config, options);
  const int64_t rows = std::min(options.max_rows, context);
  return {.device = options.device,
          .vram_budget = options.vram_budget,
          .precision = options.precision,
          .accumulate = options.accumulate,
          .kv = options.kv,
          .max_rows = rows,
          .max_logit_rows = options.all_logits ? rows : 1,
          .pages = {pages_needed(context, 0, rows), pages_needed(context, config.window, rows)},
          .observer = options.observer};
}

Session::Session(const Architecture& architecture, const Config& config, const Weights& weights,
                 const SessionOptions& options)
    : Session(config, options,
              architecture.runner(config, weights, runner_options(config, options))) {}

Session::Session(const Config& config, const SessionOptions& options,
                 std::unique_ptr<Runner> runner)
    : config_(config),
      context_(context_of(config, options)),
      max_rows_(std::min(options.max_rows, context_)),
      all_logits_(options.all_logits),
      pools_{PagePool(pages_needed(context_, 0, max_rows_)),
             PagePool(pages_needed(context_, config.window, max_rows_))},
      runner_(std::move(runner)) {
  const int64_t windows[kKvGroups] = {0, config_.window};
  for (int g = 0; g < kKvGroups; ++g) {
    tables_[g].resize(pages_for(context_));
    groups_.emplace_back(pools_[g], windows[g], tables_[g]);
  }
}

std::span<const float> Session::feed(std::span<const int32_t> tokens, const OnLogits& each,
                                     const std::function<bool()>& cancelled) {
  MXGPT_CHECK(!tokens.empty() && (all_logits_ || !each), "{} tokens", tokens.size());
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config_.vocabulary) {
      throw Error("tokens", fmt::format("{} is outside the model's vocabulary of {}", token,
                                        config_.vocabulary));
    }
  }
  if (size() + static_cast<int64_t>(tokens.size()) > context_) {
    throw Error("context",
                fmt::format("{} tokens do not fit into {}", size() + tokens.size(), context_),
                "raise --ctx, or shorten the conversation");
  }
  std::span<const float> logits;
  while (!tokens.empty()) {
    if (cancelled && cancelled()) return {};
    const auto rows = std::min<int64_t>(max_rows_, static_cast<int64_t>(tokens.size()));
    const int64_t begin = size();
    for (SequencePages& group : groups_) {
      MXGPT_CHECK(group.reserve(begin + rows), "out of pages at {} + {}", begin, rows);
    }
    std::vector<int32_t> positions(rows), wanted;
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    const bool last = rows == static_cast<int64_t>(tokens.size());
    if (each) {
      wanted.resize(rows);
      std::iota(wanted.begin(), wanted.end(), 0);
    } else if (last) {
      wanted.push_back(static_cast<int32_t>(rows - 1));
    }
    const std::vector<int32_t> sequences(rows, 0);
    Batch batch{.tokens = tokens.first(rows),
                .positions = positions,
                .sequences = sequences,
                .logit_rows = wanted};
    for (int g = 0; g < kKvGroups; ++g) batch.tables[g] = {tables_[g].data(), 0};
    logits = runner_->step(batch);
    if (each) {
      for (int64_t row = 0; row < rows; ++row) {
        each(begin + row, logits.subspan(row * config_.vocabulary, config_.vocabulary));
      }
    }
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + rows);
    keep(size());
    tokens = tokens.subspan(rows);
  }
  return logits.last(config_.vocabulary);
}

void Session::keep(int64_t end) {
  for (SequencePages& group : groups_) group.keep(end);
}

int64_t Session::rewind_to_common_prefix(std::span<const int32_t> tokens) {
  int64_t common = 0;
  const int64_t most = std::min<int64_t>(size(), static_cast<int64_t>(tokens.size()) - 1);
  while (common < most && tokens_[common] == tokens[common]) ++common;
  const bool held = std::all_of(groups_.begin(), groups_.end(), [&](const SequencePages& group) {
    return group.can_continue_at(common);
  });
  if (!held) common = 0;
  tokens_.resize(common);
  keep(common);
  return common;
}

void Session::reset() {
  tokens_.clear();
  keep(0);
}

}  // namespace mxgpt
