#include "numerics/comparison.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/threads.h"

namespace mxgpt {

namespace {

/// Positions of all pieces, and the cluster of each.
struct Positions {
  std::vector<Position> all;
  std::vector<int32_t> cluster;

  /// Room for `count` more, all of one cluster; returns the first.
  Position* extend(size_t count, int32_t of_cluster) {
    all.resize(all.size() + count);
    cluster.resize(all.size(), of_cluster);
    return &all[all.size() - count];
  }
  Summary summary() const { return summarize(all, cluster); }
};

int32_t token_after(std::span<const int32_t> tokens, size_t position) {
  return position + 1 < tokens.size() ? tokens[position + 1] : kNoToken;
}

struct Observed {
  Trace trace;
  std::unique_ptr<Teacher> teacher;
};

}  // namespace

void compare_models(const Contender& reference, const Contender& candidate, const Contender* source,
                    std::span<const Piece> pieces, Report& report, const OnTokens& progress) {
  constexpr size_t kReference = 0, kCandidate = 1, kSource = 2;
  std::vector<const Contender*> contenders{&reference, &candidate};
  if (source) contenders.push_back(source);
  const size_t baseline = source ? kSource : kReference;

  int64_t rows = INT64_MAX;
  bool comparable = true, seen = true;
  for (const Contender* c : contenders) {
    rows = std::min(rows, rows_a_step(c->model->config()));
    comparable = comparable && same_shape(*contenders[baseline]->model, *c->model);
    seen = seen && c->options.device == Device::cpu;
  }
  const bool same_shapes = std::exchange(comparable, comparable && seen);
  std::vector<Observed> runners(contenders.size());
  for (size_t m = 0; m < contenders.size(); ++m) {
    SessionOptions options = contenders[m]->options;
    options.context = longest(pieces);
    options.max_rows = rows;
    if (comparable) options.observer = &runners[m].trace;
    runners[m].teacher = std::make_unique<Teacher>(*contenders[m]->model, options);
  }

  struct Pair {
    size_t reference, candidate;
    Positions positions;
  };
  std::vector<Pair> pairs{{kReference, kCandidate, {}}};
  if (source) {
    pairs.push_back({kSource, kReference, {}});
    pairs.push_back({kSource, kCandidate, {}});
  }
  std::vector<TraceComparison> traces(contenders.size());
  std::vector<std::span<const std::span<const float>>> logits(contenders.size());
  std::vector<Position*> out(pairs.size());
  for (size_t p = 0; p < pieces.size(); ++p) {
    const std::span<const int32_t> tokens = pieces[p].tokens;
    for (Observed& runner : runners) runner.teacher->begin_piece();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto part = tokens.subspan(begin, std::min<size_t>(rows, tokens.size() - begin));
      for (size_t m = 0; m < runners.size(); ++m) {
        runners[m].trace.begin_step();
        logits[m] = runners[m].teacher->step(part);
        progress(static_cast<int64_t>(part.size()));
      }
      for (size_t k = 0; k < pairs.size(); ++k)
        out[k] = pairs[k].positions.extend(part.size(), report.clusters.of_piece[p]);
      parallel_for(static_cast<int64_t>(part.size()), [&](int64_t row) {
        Distribution of[3];
        for (size_t m = 0; m < logits.size(); ++m) of[m] = distribution_of(logits[m][row]);
        const int32_t token = token_after(tokens, begin + row);
        for (size_t k = 0; k < pairs.size(); ++k)
          out[k][row] = compare(of[pairs[k].reference], of[pairs[k].candidate], token);
      });
      for (size_t m = 0; comparable && m < runners.size(); ++m) {
        if (m != baseline) traces[m].add(runners[baseline].trace, runners[m].trace);
      }
    }
  }

  constexpr const char* kLabels[] = {"reference", "candidate", "source"};
  report.summary = pairs[0].positions.summary();
  for (size_t k = 1; k < pairs.size(); ++k) {
    report.against_source.push_back({kLabels[pairs[k].candidate], pairs[k].positions.summary()});
  }
  report.baseline = kLabels[baseline];
  if (!same_shapes)
    report.insides_missing = "the models are not of one shape";
  else if (!comparable)
    report.insides_missing = "a GPU keeps them to itself";
  for (size_t m = 0; comparable && m < runners.size(); ++m) {
    if (m == baseline) continue;
    report.insides.push_back({.label = kLabels[m],
                              .hidden_errors = traces[m].hidden_errors(),
                              .routing = traces[m].routing()});
  }
}

void compare_with_stored(const StoredReference& reference, const Contender& candidate,
                         Report& report, const OnTokens& progress) {
  const std::vector<Piece>& pieces = reference.pieces();
  SessionOptions options = candidate.options;
  options.context = longest(pieces);
  options.max_rows = rows_a_step(candidate.model->config());
  const auto rows = static_cast<size_t>(options.max_rows);
  Teacher teacher(*candidate.model, options);
  Positions positions;
  std::vector<std::vector<float>> stored(rows);
  for (size_t p = 0; p < pieces.size(); ++p) {
    const std::span<const int32_t> tokens = pieces[p].tokens;
    teacher.begin_piece();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto part = tokens.subspan(begin, std::min(rows, tokens.size() - begin));
      const auto logits = teacher.step(part);
      progress(static_cast<int64_t>(part.size()));
      for (size_t row = 0; row < part.size(); ++row) {
        stored[row].clear();
        if (reference.full()) {
          reference.logits(p, begin + row, stored[row]);
        } else if (begin + row + 1 == tokens.size()) {
          reference.last_logits(p, stored[row]);
        }
      }
      Position* out = positions.extend(part.size(), report.clusters.of_piece[p]);
      parallel_for(static_cast<int64_t>(part.size()), [&](int64_t row) {
        const Distribution ours = distribution_of(logits[row]);
        const int32_t token = token_after(tokens, begin + row);
        out[row] = stored[row].empty() ? compare(reference.top(p, begin + row), ours, token)
                                       : compare(distribution_of(stored[row]), ours, token);
      });
    }
  }
  report.stored = true;
  report.stored_full = reference.full();
  report.summary = positions.summary();
  report.insides_missing = "the reference is a file of log-probabilities";
}

}  // namespace mxgpt
