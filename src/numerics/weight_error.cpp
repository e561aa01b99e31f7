#include "numerics/weight_error.h"

#include <cmath>

#include "base/check.h"
#include "base/threads.h"

namespace mxgpt {

namespace {

/// Calls with every tensor that the model has.
template <class Call>
void each_tensor(const Model& model, const Call& call) {
  Weights weights = model.weights();  // views
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      if (const Tensor tensor = spec.in(weights, layer)) call(spec, layer, tensor);
    }
  }
}

int64_t elements_of(const Tensor& tensor) {
  return tensor.slices * tensor.rows * tensor.k;
}

double relative_rms(const Tensor& a, const Tensor& b) {
  constexpr int64_t kRows = 64;
  struct Squares {
    double error = 0, size = 0;
  };
  const int64_t rows = a.slices * a.rows;
  std::vector<Squares> parts((rows + kRows - 1) / kRows);
  parallel_ranges(rows, kRows, [&](int64_t begin, int64_t end) {
    std::vector<float> x(a.k), y(a.k);
    Squares part;
    for (int64_t row = begin; row < end; ++row) {
      traits(a.format).dequantize(a.data + row * a.row_bytes(), a.k, x.data());
      traits(b.format).dequantize(b.data + row * b.row_bytes(), b.k, y.data());
      for (int64_t i = 0; i < a.k; ++i) {
        const double difference = static_cast<double>(y[i]) - x[i];
        part.error += difference * difference;
        part.size += static_cast<double>(x[i]) * x[i];
      }
    }
    parts[begin / kRows] = part;
  });
  Squares all;
  for (const Squares& part : parts) {
    all.error += part.error;
    all.size += part.size;
  }
  return all.error == 0 ? 0 : std::sqrt(all.error / all.size);
}

}  // namespace

std::vector<WeightError> weight_errors(const Model& reference, const Model& candidate,
                                       const std::function<void(int64_t)>& progress) {
  std::vector<WeightError> errors;
  Weights other = candidate.weights();
  each_tensor(reference, [&](const TensorSpec& spec, int64_t layer, const Tensor& a) {
    const Tensor b = spec.in(other, layer);
    if (!b) return;
    MXGPT_CHECK(a.slices == b.slices && a.rows == b.rows && a.k == b.k, "{}: {} {} {}", spec.gguf,
                b.slices, b.rows, b.k);
    errors.push_back({.name = spec.gguf_name(layer),
                      .role = spec.role,
                      .reference = a.format,
                      .candidate = b.format,
                      .elements = elements_of(a),
                      .relative_rms = a.data == b.data ? 0 : relative_rms(a, b)});
    progress(elements_of(a));
  });
  return errors;
}

bool same_shape(const Model& a, const Model& b) {
  if (&a.architecture() != &b.architecture()) return false;
  const Config &c = a.config(), &d = b.config();
  if (c.layers != d.layers || c.hidden != d.hidden || c.top_k != d.top_k) return false;
  for (const TensorSpec& spec : a.architecture().tensors) {
    if (spec.shape(c) != spec.shape(d)) return false;
  }
  return true;
}

int64_t parameters(const Model& model) {
  int64_t count = 0;
  each_tensor(model, [&](const TensorSpec&, int64_t, const Tensor& t) { count += elements_of(t); });
  return count;
}

}  // namespace mxgpt
