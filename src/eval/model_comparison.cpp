#include "eval/model_comparison.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::eval {

namespace {

/// Metrics of all positions, with the cluster of each.
struct PositionMetricsLog {
  std::vector<PositionMetrics> all;
  std::vector<int32_t> cluster;

  /// Appends `count` positions of one cluster; returns the first.
  PositionMetrics* extend(size_t count, int32_t cluster_id) {
    all.resize(all.size() + count);
    cluster.resize(all.size(), cluster_id);
    return &all[all.size() - count];
  }
  ComparisonSummary summary() const { return summarize(all, cluster); }
};

int32_t token_after(std::span<const int32_t> tokens, size_t position) {
  return position + 1 < tokens.size() ? tokens[position + 1] : kNoToken;
}

struct TracedModel {
  ActivationTrace trace;
  std::unique_ptr<TeacherForcedScorer> scorer;
};

}  // namespace

void compare_models(const ModelUnderTest& reference, const ModelUnderTest& candidate,
                    const ModelUnderTest* source, std::span<const Chunk> chunks, Report& report,
                    const TokenProgress& progress) {
  constexpr size_t kReference = 0, kCandidate = 1, kSource = 2;
  std::vector<const ModelUnderTest*> models{&reference, &candidate};
  if (source) models.push_back(source);
  const size_t baseline = source ? kSource : kReference;

  int64_t rows = INT64_MAX;
  bool traceable = true, on_cpu = true;
  for (const ModelUnderTest* c : models) {
    rows = std::min(rows, tokens_per_step(c->model->config()));
    traceable = traceable && same_shape(*models[baseline]->model, *c->model);
    on_cpu = on_cpu && runtime::device(c->options.device).is_host();
  }
  const bool same_shapes = std::exchange(traceable, traceable && on_cpu);
  std::vector<TracedModel> traced(models.size());
  for (size_t m = 0; m < models.size(); ++m) {
    engine::ScoringOptions options = models[m]->options;
    options.context = max_chunk_length(chunks);
    options.max_batched_tokens = rows;
    if (traceable) options.activation_hook = &traced[m].trace;
    traced[m].scorer = std::make_unique<TeacherForcedScorer>(*models[m]->model, options);
  }

  struct Pair {
    size_t reference, candidate;
    PositionMetricsLog positions;
  };
  std::vector<Pair> pairs{{kReference, kCandidate, {}}};
  if (source) {
    pairs.push_back({kSource, kReference, {}});
    pairs.push_back({kSource, kCandidate, {}});
  }
  std::vector<TraceComparison> traces(models.size());
  std::vector<std::span<const std::span<const float>>> logits(models.size());
  std::vector<PositionMetrics*> out(pairs.size());
  for (size_t p = 0; p < chunks.size(); ++p) {
    const std::span<const int32_t> tokens = chunks[p].tokens;
    for (TracedModel& runner : traced) runner.scorer->begin_chunk();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto step = tokens.subspan(begin, std::min<size_t>(rows, tokens.size() - begin));
      for (size_t m = 0; m < traced.size(); ++m) {
        traced[m].trace.begin_step();
        logits[m] = traced[m].scorer->step(step);
        progress(static_cast<int64_t>(step.size()));
      }
      for (size_t k = 0; k < pairs.size(); ++k)
        out[k] = pairs[k].positions.extend(step.size(), report.clusters.cluster_of_chunk[p]);
      parallel_for(static_cast<int64_t>(step.size()), [&](int64_t row) {
        TokenDistribution distributions[3];
        for (size_t m = 0; m < logits.size(); ++m)
          distributions[m] = make_distribution(logits[m][row]);
        const int32_t token = token_after(tokens, begin + row);
        for (size_t k = 0; k < pairs.size(); ++k)
          out[k][row] = compare_distributions(distributions[pairs[k].reference],
                                              distributions[pairs[k].candidate], token);
      });
      for (size_t m = 0; traceable && m < traced.size(); ++m) {
        if (m != baseline) traces[m].add(traced[baseline].trace, traced[m].trace);
      }
    }
  }

  constexpr const char* kLabels[] = {"reference", "candidate", "source"};
  report.summary = pairs[0].positions.summary();
  for (size_t k = 1; k < pairs.size(); ++k) {
    report.source_comparisons.push_back(
        {kLabels[pairs[k].candidate], pairs[k].positions.summary()});
  }
  report.baseline = kLabels[baseline];
  if (!same_shapes)
    report.no_layers_reason = "the models have different shapes";
  else if (!traceable)
    report.no_layers_reason = "activations are only observable on the CPU";
  for (size_t m = 0; traceable && m < traced.size(); ++m) {
    if (m == baseline) continue;
    report.layer_comparisons.push_back({.label = kLabels[m],
                                        .hidden_errors = traces[m].hidden_errors(),
                                        .routing = traces[m].routing()});
  }
}

void compare_with_stored(const StoredReference& reference, const ModelUnderTest& candidate,
                         Report& report, const TokenProgress& progress) {
  const std::vector<Chunk>& chunks = reference.chunks();
  engine::ScoringOptions options = candidate.options;
  options.context = max_chunk_length(chunks);
  options.max_batched_tokens = tokens_per_step(candidate.model->config());
  const auto rows = static_cast<size_t>(options.max_batched_tokens);
  TeacherForcedScorer scorer(*candidate.model, options);
  PositionMetricsLog positions;
  std::vector<std::vector<float>> stored(rows);
  for (size_t p = 0; p < chunks.size(); ++p) {
    const std::span<const int32_t> tokens = chunks[p].tokens;
    scorer.begin_chunk();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto step = tokens.subspan(begin, std::min(rows, tokens.size() - begin));
      const auto logits = scorer.step(step);
      progress(static_cast<int64_t>(step.size()));
      for (size_t row = 0; row < step.size(); ++row) {
        stored[row].clear();
        if (reference.has_full_logits()) {
          reference.logits(p, begin + row, stored[row]);
        } else if (begin + row + 1 == tokens.size()) {
          reference.last_logits(p, stored[row]);
        }
      }
      PositionMetrics* out = positions.extend(step.size(), report.clusters.cluster_of_chunk[p]);
      parallel_for(static_cast<int64_t>(step.size()), [&](int64_t row) {
        const TokenDistribution candidate_distribution = make_distribution(logits[row]);
        const int32_t token = token_after(tokens, begin + row);
        out[row] = stored[row].empty() ? compare_distributions(reference.top_tokens(p, begin + row),
                                                               candidate_distribution, token)
                                       : compare_distributions(make_distribution(stored[row]),
                                                               candidate_distribution, token);
      });
    }
  }
  report.has_stored_reference = true;
  report.has_stored_logits = reference.has_full_logits();
  report.summary = positions.summary();
  report.no_layers_reason = "the reference is a file of log-probabilities";
}

}  // namespace mxgpt::eval
