#include "model/importance_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/escape.h"
#include "io/gguf.h"

namespace mxgpt::model {

namespace {

constexpr std::string_view kSumsSuffix = ".in_sum2", kCountsSuffix = ".counts";

std::vector<float> read_floats(const io::FileTensor& tensor, const std::string& where) {
  if (tensor.format != quant::Format::f32) {
    throw Error(where, fmt::format("tensor '{}' is {}, not F32", escape_for_terminal(tensor.name),
                                   tensor.type));
  }
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (const float value : values) {
    if (!(value >= 0 && std::isfinite(value))) {
      throw Error(where, fmt::format("tensor '{}' has the value {}, which is not a valid sum or "
                                     "count",
                                     escape_for_terminal(tensor.name), value));
    }
  }
  return values;
}

}  // namespace

ImportanceCollector::ImportanceCollector(const ModelFile& model, const Weights& weights) {
  for (const TensorRef& ref : model.tensors()) {
    if (ref.spec->role == Role::vector) continue;
    const backend::Tensor& tensor = ref.get(weights);
    sums_by_weight_[tensor.data] = {.name = ref.gguf_name(),
                                    .num_experts = tensor.num_experts,
                                    .k = tensor.k,
                                    .squares = std::vector<double>(tensor.num_experts * tensor.k),
                                    .counts = std::vector<int64_t>(tensor.num_experts)};
  }
}

void ImportanceCollector::linear_input(const backend::Tensor& weight, int64_t expert,
                                       const float* x, const int32_t* x_rows, int64_t tokens) {
  // A fused projection may run in parts. Its first part is found by the address of the whole; the
  // other parts read the same rows and are skipped.
  const auto found = sums_by_weight_.find(weight.data);
  if (found == sums_by_weight_.end()) return;
  Sums& sums = found->second;
  double* squares = &sums.squares[expert * sums.k];
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = x + (x_rows ? x_rows[t] : t) * sums.k;
    for (int64_t i = 0; i < sums.k; ++i) squares[i] += static_cast<double>(row[i]) * row[i];
  }
  sums.counts[expert] += tokens;
}

ImportanceCollector::UnseenExperts ImportanceCollector::unseen_experts() const {
  UnseenExperts unseen;
  for (const auto& [data, sums] : sums_by_weight_) {
    if (sums.num_experts == 1) continue;
    unseen.total += sums.num_experts;
    unseen.experts += std::count(sums.counts.begin(), sums.counts.end(), 0);
  }
  return unseen;
}

void ImportanceCollector::write(io::GgufWriter& out, std::string_view dataset, int64_t chunks,
                                int64_t chunk_length) const {
  out.add<std::string_view>("general.type", "imatrix");
  out.add_array<std::string_view>("imatrix.datasets", std::vector{dataset});
  out.add<uint32_t>("imatrix.chunk_count", static_cast<uint32_t>(chunks));
  out.add<uint32_t>("imatrix.chunk_size", static_cast<uint32_t>(chunk_length));
  std::vector<const Sums*> observed;
  for (const auto& [data, sums] : sums_by_weight_) {
    if (std::any_of(sums.counts.begin(), sums.counts.end(), [](int64_t n) { return n > 0; }))
      observed.push_back(&sums);
  }
  std::sort(observed.begin(), observed.end(), [](auto* a, auto* b) { return a->name < b->name; });
  for (const Sums* sums : observed) {
    out.add_tensor(fmt::format("{}{}", sums->name, kSumsSuffix), quant::Format::f32,
                   std::vector<int64_t>{sums->num_experts, sums->k});
    out.add_tensor(fmt::format("{}{}", sums->name, kCountsSuffix), quant::Format::f32,
                   std::vector<int64_t>{sums->num_experts, 1});
  }
  for (const Sums* sums : observed) {
    const std::vector<float> squares(sums->squares.begin(), sums->squares.end());
    const std::vector<float> counts(sums->counts.begin(), sums->counts.end());
    out.write(std::as_bytes(std::span(squares)));
    out.write(std::as_bytes(std::span(counts)));
  }
}

ImportanceMatrix ImportanceMatrix::open(const std::filesystem::path& path) {
  const io::GgufFile file = io::GgufFile::open(path);
  const io::GgufMetadata& metadata = file.metadata();
  ImportanceMatrix importance;
  const std::string& where = importance.path_ = path.string();
  if (metadata.string_or("general.type", "") != "imatrix")
    throw Error(where, "is not an importance matrix", "create one with `mxgpt imatrix`");
  importance.chunks_ = metadata.integer_or("imatrix.chunk_count", 0, 0, UINT32_MAX);
  if (metadata.contains("imatrix.datasets")) {
    for (const std::string_view dataset : metadata.strings("imatrix.datasets"))
      importance.dataset_.append(importance.dataset_.empty() ? "" : ", ").append(dataset);
  }
  for (const io::FileTensor& sums : file.tensors()) {
    if (!sums.name.ends_with(kSumsSuffix)) continue;
    const std::string name = sums.name.substr(0, sums.name.size() - kSumsSuffix.size());
    const std::vector<float> counts =
        read_floats(file.tensors().at(fmt::format("{}{}", name, kCountsSuffix)), where);
    std::vector<float> means = read_floats(sums, where);
    if (counts.empty() || means.empty() || means.size() % counts.size()) {
      throw Error(where, fmt::format("'{}' has {} sums for {} counts", escape_for_terminal(name),
                                     means.size(), counts.size()));
    }
    Entry entry{.num_experts = static_cast<int64_t>(counts.size()),
                .k = static_cast<int64_t>(means.size() / counts.size()),
                .means = std::move(means),
                .observed = {}};
    for (int64_t expert = 0; expert < entry.num_experts; ++expert) {
      entry.observed.push_back(counts[expert] > 0);
      if (!entry.observed.back()) continue;
      for (int64_t i = 0; i < entry.k; ++i) entry.means[expert * entry.k + i] /= counts[expert];
    }
    importance.entries_.emplace(name, std::move(entry));
  }
  if (importance.entries_.empty()) throw Error(where, "has no entries");
  return importance;
}

const float* ImportanceMatrix::find(const PlannedTensor& tensor, int64_t expert) const {
  const auto found = entries_.find(tensor.name);
  if (found == entries_.end()) return nullptr;
  const Entry& entry = found->second;
  if (entry.num_experts != tensor.num_experts() || entry.k != tensor.k()) {
    throw Error(
        path_,
        fmt::format("'{}' was observed with {} matrices of {} columns, but the model has {} "
                    "of {}",
                    escape_for_terminal(tensor.name), entry.num_experts, entry.k,
                    tensor.num_experts(), tensor.k()),
        "use the importance matrix of this model");
  }
  return entry.observed[expert] ? &entry.means[expert * entry.k] : nullptr;
}

}  // namespace mxgpt::model
