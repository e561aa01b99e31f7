#include "numerics/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/printable.h"
#include "io/gguf.h"

namespace mxgpt {

namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::vector<float> floats(const FileTensor& tensor, const std::string& where) {
  if (tensor.format != Format::f32) {
    throw Error(where,
                fmt::format("tensor '{}' is {}, not F32", printable(tensor.name), tensor.type));
  }
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (const float value : values) {
    if (!(value >= 0 && std::isfinite(value))) {
      throw Error(where, fmt::format("tensor '{}' has the value {}, which is no sum of squares "
                                     "or count",
                                     printable(tensor.name), value));
    }
  }
  return values;
}

}  // namespace

ImportanceCollector::ImportanceCollector(const Model& model) {
  Weights weights = model.weights();
  for (const TensorSpec& spec : model.architecture().tensors) {
    if (spec.role == Role::vector) continue;
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      const Tensor& tensor = spec.in(weights, layer);
      if (!tensor.data) continue;
      by_data_[tensor.data] = {.name = spec.gguf_name(layer),
                               .slices = tensor.slices,
                               .k = tensor.k,
                               .squares = std::vector<double>(tensor.slices * tensor.k),
                               .counts = std::vector<int64_t>(tensor.slices)};
    }
  }
}

void ImportanceCollector::linear_input(const Tensor& weight, int64_t slice, const float* x,
                                       const int32_t* x_rows, int64_t tokens) {
  // Of a fused projection that runs part by part, the first part is found here, where the whole
  // begins; the others read the same rows and are passed over.
  const auto found = by_data_.find(weight.data);
  if (found == by_data_.end()) return;
  Sums& sums = found->second;
  double* squares = &sums.squares[slice * sums.k];
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = x + (x_rows ? x_rows[t] : t) * sums.k;
    for (int64_t i = 0; i < sums.k; ++i) squares[i] += static_cast<double>(row[i]) * row[i];
  }
  sums.counts[slice] += tokens;
}

ImportanceCollector::Unseen ImportanceCollector::unseen() const {
  Unseen unseen;
  for (const auto& [data, sums] : by_data_) {
    if (sums.slices == 1) continue;
    unseen.of += sums.slices;
    unseen.experts += std::count(sums.counts.begin(), sums.counts.end(), 0);
  }
  return unseen;
}

void ImportanceCollector::write(GgufWriter& out, std::string_view dataset, int64_t chunks,
                                int64_t length) const {
  out.add<std::string_view>("general.type", "imatrix");
  out.add_array<std::string_view>("imatrix.datasets", std::vector{dataset});
  out.add<uint32_t>("imatrix.chunk_count", static_cast<uint32_t>(chunks));
  out.add<uint32_t>("imatrix.chunk_size", static_cast<uint32_t>(length));
  std::vector<const Sums*> seen;
  for (const auto& [data, sums] : by_data_) {
    if (std::any_of(sums.counts.begin(), sums.counts.end(), [](int64_t n) { return n > 0; }))
      seen.push_back(&sums);
  }
  std::sort(seen.begin(), seen.end(), [](auto* a, auto* b) { return a->name < b->name; });
  for (const Sums* sums : seen) {
    out.add_tensor(fmt::format("{}{}", sums->name, kSums), Format::f32,
                   std::vector<int64_t>{sums->slices, sums->k});
    out.add_tensor(fmt::format("{}{}", sums->name, kCounts), Format::f32,
                   std::vector<int64_t>{sums->slices, 1});
  }
  for (const Sums* sums : seen) {
    const std::vector<float> squares(sums->squares.begin(), sums->squares.end());
    const std::vector<float> counts(sums->counts.begin(), sums->counts.end());
    out.write(std::as_bytes(std::span(squares)));
    out.write(std::as_bytes(std::span(counts)));
  }
}

Importance Importance::open(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::open(path);
  const GgufMetadata& metadata = file.metadata();
  Importance importance;
  const std::string& where = importance.where_ = path.string();
  if (metadata.string_or("general.type", "") != "imatrix")
    throw Error(where, "is no importance matrix", "`mxgpt imatrix` makes one");
  importance.chunks_ = metadata.integer_or("imatrix.chunk_count", 0, 0, UINT32_MAX);
  if (metadata.contains("imatrix.datasets")) {
    for (const std::string_view dataset : metadata.strings("imatrix.datasets"))
      importance.dataset_.append(importance.dataset_.empty() ? "" : ", ").append(dataset);
  }
  for (const FileTensor& sums : file.tensors()) {
    if (!sums.name.ends_with(kSums)) continue;
    const std::string name = sums.name.substr(0, sums.name.size() - kSums.size());
    const std::vector<float> counts =
        floats(file.tensors().at(fmt::format("{}{}", name, kCounts)), where);
    std::vector<float> means = floats(sums, where);
    if (counts.empty() || means.empty() || means.size() % counts.size()) {
      throw Error(where, fmt::format("'{}' has {} sums for {} counts", printable(name),
                                     means.size(), counts.size()));
    }
    Entry entry{.slices = static_cast<int64_t>(counts.size()),
                .k = static_cast<int64_t>(means.size() / counts.size()),
                .means = std::move(means),
                .seen = {}};
    for (int64_t slice = 0; slice < entry.slices; ++slice) {
      entry.seen.push_back(counts[slice] > 0);
      if (!entry.seen.back()) continue;
      for (int64_t i = 0; i < entry.k; ++i) entry.means[slice * entry.k + i] /= counts[slice];
    }
    importance.entries_.emplace(name, std::move(entry));
  }
  if (importance.entries_.empty()) throw Error(where, "holds the importance of no weight");
  return importance;
}

const float* Importance::find(const PlannedTensor& tensor, int64_t slice) const {
  const auto found = entries_.find(tensor.name);
  if (found == entries_.end()) return nullptr;
  const Entry& entry = found->second;
  if (entry.slices != tensor.slices() || entry.k != tensor.k()) {
    throw Error(
        where_,
        fmt::format("'{}' was observed with {} matrices of {} columns, but the model has {} "
                    "of {}",
                    printable(tensor.name), entry.slices, entry.k, tensor.slices(), tensor.k()),
        "it is the importance matrix of another model");
  }
  return entry.seen[slice] ? &entry.means[slice * entry.k] : nullptr;
}

}  // namespace mxgpt
