// Runs models side by side over the same tokens and fills in what a report says of them. Memory
// does not grow with the text, but for some bytes a token.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "numerics/report.h"
#include "numerics/score.h"
#include "numerics/stored_reference.h"

namespace mxgpt {

struct Contender {
  const Model* model;
  SessionOptions options;  ///< how it computes: precision, accumulation
};

/// Hears of tokens that one model was fed.
using OnTokens = std::function<void(int64_t tokens)>;

/// Fills report.summary and, with a source, against_source; and the insides of all but the
/// baseline, without their weights, if the models' shapes allow. The models share a vocabulary;
/// `source` may be null. report.clusters is set by clusters_of.
void compare_models(const Contender& reference, const Contender& candidate, const Contender* source,
                    std::span<const Piece> pieces, Report& report, const OnTokens& progress);

/// Fills report.summary.
void compare_with_stored(const StoredReference& reference, const Contender& candidate,
                         Report& report, const OnTokens& progress);

}  // namespace mxgpt
