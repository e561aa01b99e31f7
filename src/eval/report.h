// Report of a comparison, as text for the terminal, JSON, or a self-contained HTML page.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/acceptance.h"
#include "eval/activation_trace.h"
#include "eval/logit_metrics.h"
#include "eval/teacher_forcing.h"
#include "eval/weight_error.h"

namespace mxgpt::eval {

/// A model under comparison, or the stored reference.
struct ReportSubject {
  std::string label;  ///< "reference", "candidate", "source"
  std::string path;
  std::string sha256;       ///< as by io/model_hash.h
  std::string description;  ///< "gpt-oss, 25.1 M parameters, MXFP4 and BF16"
  std::string precision;  ///< "exact", "default", "default, f16 sums"; empty for a stored reference
  uint64_t bytes = 0;
};

/// Layers and tensors of a model against the baseline: the source if there is one, else the
/// reference.
struct LayerComparison {
  std::string label;  ///< ReportSubject::label
  std::vector<double> hidden_errors;
  std::vector<RoutingAgreement> routing;
  std::vector<WeightError> weights;
};

/// A model compared with the source.
struct SourceComparison {
  std::string label;
  ComparisonSummary summary;
};

struct Report {
  std::string title;  ///< "mxfp4.gguf against q4_k_m.gguf"
  std::vector<ReportSubject> subjects;
  std::string command, version, date;

  std::string text_path, text_sha256;
  int64_t documents = 0, chunks = 0, chunk_length = 0;
  Clusters clusters;
  double seconds = 0;

  bool has_stored_reference = false;  ///< the reference is a file of log-probabilities
  bool has_stored_logits = false;     ///< and the file has all logits
  ComparisonSummary summary;          ///< candidate vs. reference
  std::vector<SourceComparison> source_comparisons;

  std::string baseline;  ///< label of the subject that layers are compared with
  std::vector<LayerComparison> layer_comparisons;
  std::string no_layers_reason;  ///< why there are no layer comparisons

  std::vector<CriterionResult> results;
};

std::string to_text(const Report& report);
json::object to_json(const Report& report);
std::string to_html(const Report& report);

}  // namespace mxgpt::eval
