#include "cli/bench_sequences.h"

#include <algorithm>

#include "base/check.h"

namespace mxgpt::cli {

BenchSequences::BenchSequences(const runtime::Model& model, runtime::RunnerOptions options,
                               const Limits& limits)
    : config_(model.config()), options_(options), table_stride_(engine::pages_for(limits.context)) {
  const int64_t windows[backend::kKvGroups] = {0, config_.window};
  options_.max_batched_tokens = std::max(options_.max_batched_tokens, limits.sequences);
  options_.max_logit_rows = limits.sequences;
  options_.max_sequences = limits.sequences;
  pools_.reserve(backend::kKvGroups);  // sequences keep pointers to them
  for (int g = 0; g < backend::kKvGroups; ++g) {
    options_.kv_pages[g] =
        limits.sequences *
        engine::max_pages_per_sequence(limits.context, windows[g],
                                       options_.max_batched_tokens + limits.max_extension);
    pools_.emplace_back(options_.kv_pages[g]);
    tables_[g].assign(limits.sequences * table_stride_, -1);
  }
  for (int64_t s = 0; s < limits.sequences; ++s) {
    Sequence& sequence = sequences_.emplace_back();
    for (int g = 0; g < backend::kKvGroups; ++g) {
      sequence.groups.emplace_back(pools_[g], windows[g],
                                   std::span(tables_[g]).subspan(s * table_stride_, table_stride_));
    }
  }
  runner_ = model.create_runner(options_);
}

int32_t BenchSequences::token_at(int64_t sequence, int64_t position) const {
  // Multiplicative hashing (Knuth 6.4) spreads neighbouring positions. Sequences differ, because
  // otherwise all would choose the same experts.
  const auto hashed = static_cast<uint32_t>((position + sequence * 7919) * 2654435761 + 12345);
  return static_cast<int32_t>(hashed % config_.vocabulary);
}

void BenchSequences::fill(int64_t sequence, int64_t size,
                          const std::function<void(int64_t tokens)>& each) {
  while (sequences_[sequence].size < size) {
    const int64_t rows = std::min(size - sequences_[sequence].size, options_.max_batched_tokens);
    step(sequence, 1, rows, false);
    rewind(sequence, sequences_[sequence].size);
    each(rows);
  }
}

void BenchSequences::prefill(int64_t sequence, int64_t tokens) {
  while (tokens > 0) {
    const int64_t rows = std::min(tokens, options_.max_batched_tokens);
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
  for (engine::SequencePages& group : s.groups) {
    MXGPT_CHECK(group.can_continue_at(end), "pages before {} are gone", end);
    group.trim(end);
  }
  s.size = end;
}

void BenchSequences::step(int64_t first, int64_t sequences, int64_t rows_each, bool logits) {
  std::vector<int32_t> tokens, positions, sequence_ids, logit_rows;
  for (int64_t q = first; q < first + sequences; ++q) {
    Sequence& s = sequences_[q];
    for (engine::SequencePages& group : s.groups) {
      MXGPT_CHECK(group.reserve(s.size + rows_each), "out of pages at {}", s.size);
    }
    for (int64_t i = 0; i < rows_each; ++i) {
      tokens.push_back(token_at(q, s.size));
      positions.push_back(static_cast<int32_t>(s.size++));
      sequence_ids.push_back(static_cast<int32_t>(q));
    }
    if (logits) logit_rows.push_back(static_cast<int32_t>(tokens.size() - 1));
  }
  backend::Batch batch{.tokens = tokens,
                       .positions = positions,
                       .sequences = sequence_ids,
                       .logit_rows = logit_rows};
  for (int g = 0; g < backend::kKvGroups; ++g) batch.tables[g] = {tables_[g].data(), table_stride_};
  runner_->step(batch);
}

}  // namespace mxgpt::cli
