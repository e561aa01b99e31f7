// What a comparison found, and its three forms: a table for the terminal, JSON, and one
// self-contained page of HTML.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "numerics/compare.h"
#include "numerics/gates.h"
#include "numerics/score.h"
#include "numerics/trace.h"
#include "numerics/weight_error.h"

namespace mxgpt {

/// One of the models, or the stored reference.
struct Subject {
  std::string label;  ///< "reference", "candidate", "source"
  std::string path;
  std::string sha256;     ///< of io/provenance.h
  std::string about;      ///< "gpt-oss, 25.1 M parameters, MXFP4 and BF16"
  std::string precision;  ///< "exact", "default", "default, f16 sums"; empty for a stored reference
  uint64_t bytes = 0;
};

/// A model's insides against those of the baseline: the source if there is one, else the reference.
struct Insides {
  std::string label;  ///< of the subject
  std::vector<double> hidden_errors;
  std::vector<RoutingAgreement> routing;
  std::vector<WeightError> weights;
};

/// One model against the source.
struct AgainstSource {
  std::string label;
  Summary summary;
};

struct Report {
  std::string title;  ///< "mxfp4.gguf against q4_k_m.gguf"
  std::vector<Subject> subjects;
  std::string command, version, date;

  std::string text_path, text_sha256;
  int64_t documents = 0, pieces = 0, chunk = 0;
  Clusters clusters;
  double seconds = 0;

  bool stored = false;       ///< the reference is a file of logprobs
  bool stored_full = false;  ///< with all logits
  Summary summary;           ///< candidate against reference
  std::vector<AgainstSource> against_source;

  std::string baseline;  ///< label of the subject that insides are measured against
  std::vector<Insides> insides;
  std::string insides_missing;  ///< why there are none

  std::vector<Verdict> verdicts;
};

std::string to_text(const Report& report);
json::object to_json(const Report& report);
std::string to_html(const Report& report);

}  // namespace mxgpt
