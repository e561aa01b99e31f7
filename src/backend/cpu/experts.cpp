// Mixture of experts on the CPU: tokens are grouped by the expert they chose, so that each expert's
// weights are read once a step.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cpu/backend.h"
#include "backend/cpu/kernels.h"
#include "base/threads.h"

namespace mxgpt::cpu {

void Backend::route(const float* router_logits, int64_t experts, int top_k) {
  const int64_t rows = batch_->rows();
  const auto choose = [&](int64_t row) {
    const float* logits = router_logits + row * experts;
    Choice* chosen = &choices_[row * top_k];
    // Insertion keeps the best top_k in descending order; of equals the lower expert comes first.
    int count = 0;
    for (int32_t e = 0; e < experts; ++e) {
      if (count == top_k && !(logits[e] > chosen[count - 1].weight)) continue;
      int place = count < top_k ? count++ : count - 1;
      for (; place > 0 && logits[e] > chosen[place - 1].weight; --place)
        chosen[place] = chosen[place - 1];
      chosen[place] = {e, logits[e]};
    }
    const float best = chosen[0].weight;
    float total = 0;
    for (int s = 0; s < top_k; ++s) total += chosen[s].weight = std::exp(chosen[s].weight - best);
    for (int s = 0; s < top_k; ++s) chosen[s].weight /= total;
  };
  parallel_ranges(rows, Activations::rows_at_once(8 * experts), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) choose(row);
  });

  // Counting sort of the pairs by expert; rows stay in order within one.
  std::fill(expert_begin_.begin(), expert_begin_.end(), 0);
  for (int64_t i = 0; i < rows * top_k; ++i) ++expert_begin_[choices_[i].expert + 1];
  std::partial_sum(expert_begin_.begin(), expert_begin_.end(), expert_begin_.begin());
  std::vector<int32_t>& next = expert_next_;
  next.assign(expert_begin_.begin(), expert_begin_.end() - 1);
  for (int64_t i = 0; i < rows * top_k; ++i) {
    const int32_t pair = next[choices_[i].expert]++;
    pair_row_[pair] = static_cast<int32_t>(i / top_k);
    pair_of_choice_[i] = pair;
  }
}

void Backend::norm_route_experts_residual(const NormRouteExpertsResidual& op) {
  const int64_t rows = batch_->rows(), pairs = rows * op.top_k;
  const int64_t hidden = op.norm.weight.k, intermediate = op.gate.weight.rows;
  const int64_t experts = op.router.weight.rows;
  const CpuKernels& kernel = cpu_kernels();

  const Tensor first[] = {op.router.weight, op.gate.weight, op.up.weight};
  set_normed(op.norm, op.x, first);
  const LinearJob router{.linear = op.router, .tokens = rows, .out = router_logits_.data()};
  run({&router, 1});
  route(router_logits_.data(), experts, op.top_k);
  if (observer_) {
    chosen_.resize(pairs);
    for (int64_t i = 0; i < pairs; ++i) chosen_[i] = choices_[i].expert;
    observer_->routed(chosen_.data(), rows, op.top_k);
  }

  jobs_.clear();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = expert_begin_[e], tokens = expert_begin_[e + 1] - begin;
    if (tokens == 0) continue;
    jobs_.push_back({op.gate, e, &pair_row_[begin], tokens, &gate_[begin * intermediate]});
    jobs_.push_back({op.up, e, &pair_row_[begin], tokens, &up_[begin * intermediate]});
  }
  run(jobs_);

  activations_.set(gate_.data(), pairs, intermediate, {&op.down.weight, 1}, [&](int64_t pair) {
    const int64_t at = pair * intermediate;
    kernel.activate(op.activation, &gate_[at], &up_[at], intermediate);
  });
  jobs_.clear();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = expert_begin_[e], tokens = expert_begin_[e + 1] - begin;
    if (tokens == 0) continue;
    jobs_.push_back({op.down, e, &pair_index_[begin], tokens, &down_[begin * hidden]});
  }
  run(jobs_);

  parallel_ranges(rows, Activations::rows_at_once(hidden), [&](int64_t begin, int64_t end) {
    for (int64_t choice = begin * op.top_k; choice < end * op.top_k; ++choice) {
      kernel.add_scaled(&down_[pair_of_choice_[choice] * hidden], choices_[choice].weight, hidden,
                        op.x + choice / op.top_k * hidden);
    }
  });
  if (observer_) observer_->residual(op.x, rows, hidden);
}

}  // namespace mxgpt::cpu
