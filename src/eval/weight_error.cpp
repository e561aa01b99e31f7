#include "eval/weight_error.h"

#include <cmath>

#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::eval {

namespace {

/// Calls with every tensor that the model has.
template <class Call>
void for_each_tensor(const model::Model& model, const Call& call) {
  model::Weights weights = model.weights();  // views
  for (const model::TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.count(model.config()); ++layer) {
      if (const backend::Tensor tensor = spec.get(weights, layer)) call(spec, layer, tensor);
    }
  }
}

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

std::vector<WeightError> weight_errors(const model::Model& reference, const model::Model& candidate,
                                       const std::function<void(int64_t)>& progress) {
  std::vector<WeightError> errors;
  model::Weights other = candidate.weights();
  for_each_tensor(reference,
                  [&](const model::TensorSpec& spec, int64_t layer, const backend::Tensor& a) {
                    const backend::Tensor b = spec.get(other, layer);
                    if (!b) return;
                    MXGPT_CHECK(a.num_experts == b.num_experts && a.rows == b.rows && a.k == b.k,
                                "{}: {} {} {}", spec.gguf, b.num_experts, b.rows, b.k);
                    errors.push_back({.name = spec.gguf_name(layer),
                                      .role = spec.role,
                                      .reference = a.format,
                                      .candidate = b.format,
                                      .elements = element_count(a),
                                      .relative_rms = a.data == b.data ? 0 : relative_rms(a, b)});
                    progress(element_count(a));
                  });
  return errors;
}

bool same_shape(const model::Model& a, const model::Model& b) {
  if (&a.architecture() != &b.architecture()) return false;
  const model::Config &c = a.config(), &d = b.config();
  if (c.layers != d.layers || c.hidden != d.hidden || c.top_k != d.top_k) return false;
  for (const model::TensorSpec& spec : a.architecture().tensors) {
    if (spec.shape(c) != spec.shape(d)) return false;
  }
  return true;
}

int64_t count_parameters(const model::Model& model) {
  int64_t count = 0;
  for_each_tensor(model, [&](const model::TensorSpec&, int64_t, const backend::Tensor& t) {
    count += element_count(t);
  });
  return count;
}

}  // namespace mxgpt::eval
