#include "apps/bench_sequences.h"

#include <algorithm>

#include "base/check.h"

namespace mxgpt::apps {

BenchSequences::BenchSequences(const Model& model, RunnerOptions options, const Limits& limits)
    : config_(model.config()), options_(options), stride_(pages_for(limits.context)) {
  const int64_t windows[kKvGroups] = {0, config_.window};
  options_.max_rows = std::max(options_.max_rows, limits.sequences);
  options_.max_logit_rows = limits.sequences;
  options_.max_sequences = limits.sequences;
  pools_.reserve(kKvGroups);  // sequences keep their addresses
  for (int g = 0; g < kKvGroups; ++g) {
    options_.pages[g] = limits.sequences *
                        pages_needed(limits.context, windows[g], options_.max_rows + limits.beyond);
    pools_.emplace_back(options_.pages[g]);
    tables_[g].assign(limits.sequences * stride_, -1);
  }
  for (int64_t s = 0; s < limits.sequences; ++s) {
    Sequence& sequence = sequences_.emplace_back();
    for (int g = 0; g < kKvGroups; ++g) {
      sequence.groups.emplace_back(pools_[g], windows[g],
                                   std::span(tables_[g]).subspan(s * stride_, stride_));
    }
  }
  runner_ = model.runner(options_);
}

int32_t BenchSequences::token_at(int64_t sequence, int64_t position) const {
  // Multiplicative hashing (Knuth 6.4): neighbours are far apart. Sequences differ, as otherwise
  // all would choose the same experts.
  const auto hashed = static_cast<uint32_t>((position + sequence * 7919) * 2654435761 + 12345);
  return static_cast<int32_t>(hashed % config_.vocabulary);
}

void BenchSequences::fill(int64_t sequence, int64_t size,
                          const std::function<void(int64_t tokens)>& each) {
  while (sequences_[sequence].size < size) {
    const int64_t rows = std::min(size - sequences_[sequence].size, options_.max_rows);
    step(sequence, 1, rows, false);
    rewind(sequence, sequences_[sequence].size);
    each(rows);
  }
}

void BenchSequences::prefill(int64_t sequence, int64_t tokens) {
  while (tokens > 0) {
    const int64_t rows = std::min(tokens, options_.max_rows);
    tokens -= rows;
    step(sequence, 1, rows, tokens == 0);
  }
}

void BenchSequences::decode(int64_t sequences) {
  step(0, sequences, 1, true);
}

void BenchSequences::rewind(int64_t sequence, int64_t end) {
  Sequence& s = sequences_[sequence];
  MXGPT_CHECK(end <= s.size, "to {} from {}", end, s.size);
  for (SequencePages& group : s.groups) {
    MXGPT_CHECK(group.can_continue_at(end), "pages before {} are gone", end);
    group.keep(end);
  }
  s.size = end;
}

void BenchSequences::step(int64_t first, int64_t sequences, int64_t rows_each, bool logits) {
  std::vector<int32_t> tokens, positions, rows_of, wanted;
  for (int64_t q = first; q < first + sequences; ++q) {
    Sequence& s = sequences_[q];
    for (SequencePages& group : s.groups) {
      MXGPT_CHECK(group.reserve(s.size + rows_each), "out of pages at {}", s.size);
    }
    for (int64_t i = 0; i < rows_each; ++i) {
      tokens.push_back(token_at(q, s.size));
      positions.push_back(static_cast<int32_t>(s.size++));
      rows_of.push_back(static_cast<int32_t>(q));
    }
    if (logits) wanted.push_back(static_cast<int32_t>(tokens.size() - 1));
  }
  Batch batch{.tokens = tokens, .positions = positions, .sequences = rows_of, .logit_rows = wanted};
  for (int g = 0; g < kKvGroups; ++g) batch.tables[g] = {tables_[g].data(), stride_};
  runner_->step(batch);
}

}  // namespace mxgpt::apps
