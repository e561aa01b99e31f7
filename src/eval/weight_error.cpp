#include "eval/weight_error.h"

#include <cmath>

#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::eval {

namespace {

int64_t element_count(const backend::Tensor& tensor) {
  return tensor.num_experts * tensor.rows * tensor.k;
}

double relative_rms(const backend::Tensor& a, const backend::Tensor& b) {
  constexpr int64_t kRows = 64;
  struct Squares {
    double error = 0, size = 0;
  };
  const int64_t rows = a.num_experts * a.rows;
  std::vector<Squares> partials((rows + kRows - 1) / kRows);
  parallel_ranges(rows, kRows, [&](int64_t begin, int64_t end) {
    std::vector<float> x(a.k), y(a.k);
    Squares partial;
    for (int64_t row = begin; row < end; ++row) {
      quant::traits(a.format).dequantize(a.data + row * a.row_bytes(), a.k, x.data());
      quant::traits(b.format).dequantize(b.data + row * b.row_bytes(), b.k, y.data());
      for (int64_t i = 0; i < a.k; ++i) {
        const double difference = static_cast<double>(y[i]) - x[i];
        partial.error += difference * difference;
        partial.size += static_cast<double>(x[i]) * x[i];
      }
    }
    partials[begin / kRows] = partial;
  });
  Squares all;
  for (const Squares& partial : partials) {
    all.error += partial.error;
    all.size += partial.size;
  }
  return all.error == 0 ? 0 : std::sqrt(all.error / all.size);
}

}  // namespace

std::vector<WeightError> weight_errors(const runtime::Model& reference,
                                       const runtime::Model& candidate,
                                       const std::function<void(int64_t)>& progress) {
  std::vector<WeightError> errors;
  for (const model::TensorRef& tensor : reference.tensors()) {
    const backend::Tensor &a = tensor.get(reference.weights()),
                          &b = tensor.get(candidate.weights());
    if (!b) continue;
    MXGPT_CHECK(a.num_experts == b.num_experts && a.rows == b.rows && a.k == b.k, "{}: {} {} {}",
                tensor.spec->gguf, b.num_experts, b.rows, b.k);
    errors.push_back({.name = tensor.gguf_name(),
                      .role = tensor.spec->role,
                      .reference = a.format,
                      .candidate = b.format,
                      .elements = element_count(a),
                      .relative_rms = a.data == b.data ? 0 : relative_rms(a, b)});
    progress(element_count(a));
  }
  return errors;
}

bool same_shape(const model::ModelFile& a, const model::ModelFile& b) {
  if (&a.architecture() != &b.architecture()) return false;
  const model::Config &c = a.config(), &d = b.config();
  if (c.layers != d.layers || c.hidden != d.hidden || c.top_k != d.top_k) return false;
  for (const model::TensorSpec& spec : a.architecture().tensors) {
    if (spec.shape(c) != spec.shape(d)) return false;
  }
  return true;
}

int64_t count_parameters(const model::ModelFile& model) {
  int64_t count = 0;
  for (const model::TensorRef& tensor : model.tensors()) {
    const model::TensorSpec& spec = *tensor.spec;
    count += model::dim(model.config(), spec.num_experts) * model::dim(model.config(), spec.rows) *
             model::dim(model.config(), spec.k);
  }
  return count;
}

}  // namespace mxgpt::eval
