// Runs models side by side over the same tokens and fills in what a report says of them. Memory
// does not grow with the text, but for some bytes a token.
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
  engine::ScoringOptions options;  ///< how it computes: precision, accumulation
};

/// Hears of tokens that one model was fed.
using TokenProgress = std::function<void(int64_t tokens)>;

/// Fills report.summary and, with a source, against_source; and the insides of all but the
/// baseline, without their weights, if the models' shapes allow. The models share a vocabulary;
/// `source` may be null. report.clusters is set by clusters_of.
void compare_models(const ModelUnderTest& reference, const ModelUnderTest& candidate,
                    const ModelUnderTest* source, std::span<const Chunk> chunks, Report& report,
                    const TokenProgress& progress);

/// Fills report.summary.
void compare_with_stored(const StoredReference& reference, const ModelUnderTest& candidate,
                         Report& report, const TokenProgress& progress);

}  // namespace mxgpt::eval
