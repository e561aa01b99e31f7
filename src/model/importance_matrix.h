// Importance matrices: for each column of each weight, how large the numbers are that it meets, on
// a calibration text. Quantizers weight squared errors by their mean squares. Files are GGUF, as
// llama.cpp writes and reads them: for each weight a tensor `<name>.in_sum2`, [slices, k], the sums
// of squares, and `<name>.counts`, [slices, 1], over how many tokens.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/activation_hook.h"
#include "io/gguf_writer.h"
#include "model/convert.h"

namespace mxgpt::model {

/// Collects while a model with these weights runs.
class ImportanceCollector : public backend::ActivationHook {
 public:
  ImportanceCollector(const ModelFile& model, const Weights& weights);

  void linear_input(const backend::Tensor& weight, int64_t expert, const float* x,
                    const int32_t* x_rows, int64_t tokens) override;

  /// Declares and writes what was collected. `dataset` names the text, `chunks` pieces of `length`
  /// tokens were run.
  void write(io::GgufWriter& out, std::string_view dataset, int64_t chunks,
             int64_t chunk_length) const;

  /// Experts that were chosen for no token, of all.
  struct UnseenExperts {
    int64_t experts = 0, total = 0;
  };
  UnseenExperts unseen_experts() const;

 private:
  struct Sums {
    std::string name;
    int64_t num_experts, k;
    std::vector<double> squares;  ///< [slices][k]
    std::vector<int64_t> counts;  ///< [slices]
  };
  std::map<const std::byte*, Sums> sums_by_weight_;  ///< of the model's Weights
};

/// Read from a file.
class ImportanceMatrix {
 public:
  /// Throws Error for a file that is no importance matrix, or in which sums are not finite, are
  /// negative or do not go with their counts.
  static ImportanceMatrix open(const std::filesystem::path& path);

  /// Weights of the squared errors of a slice's columns, [k]; null if the text never led there.
  /// Throws Error if the tensor has another shape than the one that was observed.
  const float* find(const PlannedTensor& tensor, int64_t expert) const;

  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  size_t size() const { return entries_.size(); }  ///< weights
  int64_t chunks() const { return chunks_; }
  const std::string& dataset() const { return dataset_; }

 private:
  struct Entry {
    int64_t num_experts, k;
    std::vector<float> means;    ///< [slices][k]
    std::vector<bool> observed;  ///< [slices]
  };
  std::string path_, dataset_;
  int64_t chunks_ = 0;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace mxgpt::model
