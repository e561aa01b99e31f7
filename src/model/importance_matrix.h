// Importance matrices: the mean square of each input column of each weight matrix on a calibration
// text, by which quantizers weight squared errors. Files are GGUF, compatible with llama.cpp: per
// weight a tensor `<name>.in_sum2` [slices, k] with sums of squares, and `<name>.counts` [slices,
// 1] with token counts.
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

/// Collects sums while a model with these weights runs.
class ImportanceCollector : public backend::ActivationHook {
 public:
  ImportanceCollector(const ModelFile& model, const Weights& weights);

  void linear_input(const backend::Tensor& weight, int64_t expert, const float* x,
                    const int32_t* x_rows, int64_t tokens) override;

  /// Declares and writes the sums. `dataset` names the text, which had `chunks` chunks of
  /// `chunk_length` tokens.
  void write(io::GgufWriter& out, std::string_view dataset, int64_t chunks,
             int64_t chunk_length) const;

  /// Experts that no token was routed to.
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
  std::map<const std::byte*, Sums> sums_by_weight_;  ///< by the address of the weight
};

/// An importance matrix read from a file.
class ImportanceMatrix {
 public:
  /// Throws Error if the file is not an importance matrix, or if sums are not finite, negative or
  /// inconsistent with their counts.
  static ImportanceMatrix open(const std::filesystem::path& path);

  /// Weights for the squared errors of an expert's columns, [k]; null if no token reached it.
  /// Throws Error if the tensor's shape differs.
  const float* find(const PlannedTensor& tensor, int64_t expert) const;

  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  size_t size() const { return entries_.size(); }  ///< number of weights
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
