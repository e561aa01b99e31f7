// The backends' ops in double, one result at a time and as plainly as their definitions: the
// references of the tests, of `validate --kernels` and of the self-checks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace mxgpt::reference {

/// One query head against the keys and values of its KV head.
struct Attention {
  const float* q;  ///< [head_dim]
  const float* keys;
  const float* values;
  int64_t stride;  ///< from a position's key (or value) to the next one's
  int head_dim;
  double scale;
  int64_t first, last;  ///< positions seen, both included
  const float* sink = nullptr;
};

/// Softmax over all scores, with the sink's beside them.
inline std::vector<double> attention(const Attention& p) {
  std::vector<double> weights;
  double most = p.sink ? *p.sink : -INFINITY;
  for (int64_t at = p.first; at <= p.last; ++at) {
    double score = 0;
    for (int d = 0; d < p.head_dim; ++d) score += double{p.q[d]} * p.keys[at * p.stride + d];
    weights.push_back(score * p.scale);
    most = std::max(most, weights.back());
  }
  double total = p.sink ? std::exp(*p.sink - most) : 0;
  for (double& w : weights) total += w = std::exp(w - most);
  std::vector<double> out(p.head_dim);
  for (int64_t at = p.first; at <= p.last; ++at) {
    for (int d = 0; d < p.head_dim; ++d)
      out[d] += weights[at - p.first] / total * p.values[at * p.stride + d];
  }
  return out;
}

}  // namespace mxgpt::reference
