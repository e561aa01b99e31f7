// Runs models side by side over the same tokens and fills in a report. Memory grows by a few bytes
// per token only.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "eval/report.h"
#include "eval/stored_reference.h"
#include "eval/teacher_forcing.h"

namespace mxgpt::eval {

struct ModelUnderTest {
  const runtime::Model* model;
  engine::ScoringOptions options;  ///< precision and accumulation
};

/// Called with the number of tokens that one model has processed.
using TokenProgress = std::function<void(int64_t tokens)>;

/// Fills report.summary and, with a source, source_comparisons. If the models have the same shapes,
/// also layer_comparisons of all but the baseline, without weight errors. The models share a
/// vocabulary; `source` may be null. report.clusters comes from cluster_chunks().
void compare_models(const ModelUnderTest& reference, const ModelUnderTest& candidate,
                    const ModelUnderTest* source, std::span<const Chunk> chunks, Report& report,
                    const TokenProgress& progress);

/// Fills report.summary.
void compare_with_stored(const StoredReference& reference, const ModelUnderTest& candidate,
                         Report& report, const TokenProgress& progress);

}  // namespace mxgpt::eval
