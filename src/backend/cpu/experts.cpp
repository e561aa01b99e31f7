// Mixture of experts on the CPU: tokens are grouped by expert, so that each expert's weights are
// read once per step.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cpu/backend.h"
#include "backend/cpu/kernels.h"
#include "base/thread_pool.h"

namespace mxgpt::cpu {

void CpuBackend::route_topk(const float* router_logits, int64_t experts, int top_k) {
  const int64_t rows = batch_->rows();
  const auto choose = [&](int64_t row) {
    const float* logits = router_logits + row * experts;
    ExpertChoice* chosen = &choices_[row * top_k];
    // Insertion sort of the best top_k in descending order; ties go to the lower expert.
    int count = 0;
    for (int32_t e = 0; e < experts; ++e) {
      if (count == top_k && !(logits[e] > chosen[count - 1].weight)) continue;
      int slot = count < top_k ? count++ : count - 1;
      for (; slot > 0 && logits[e] > chosen[slot - 1].weight; --slot)
        chosen[slot] = chosen[slot - 1];
      chosen[slot] = {e, logits[e]};
    }
    const float best = chosen[0].weight;
    float total = 0;
    for (int s = 0; s < top_k; ++s) total += chosen[s].weight = std::exp(chosen[s].weight - best);
    for (int s = 0; s < top_k; ++s) chosen[s].weight /= total;
  };
  parallel_ranges(rows, Activations::grain_rows(8 * experts), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) choose(row);
  });

  // Counting sort of the pairs by expert, stable in the rows.
  std::fill(expert_offsets_.begin(), expert_offsets_.end(), 0);
  for (int64_t i = 0; i < rows * top_k; ++i) ++expert_offsets_[choices_[i].expert + 1];
  std::partial_sum(expert_offsets_.begin(), expert_offsets_.end(), expert_offsets_.begin());
  std::vector<int32_t>& next = expert_cursors_;
  next.assign(expert_offsets_.begin(), expert_offsets_.end() - 1);
  for (int64_t i = 0; i < rows * top_k; ++i) {
    const int32_t pair = next[choices_[i].expert]++;
    sorted_token_ids_[pair] = static_cast<int32_t>(i / top_k);
    inverse_permutation_[i] = pair;
  }
}

void CpuBackend::moe_block(const backend::MoeBlock& op) {
  const int64_t rows = batch_->rows(), pairs = rows * op.router.top_k;
  const int64_t hidden = op.router.norm.weight.k, intermediate = op.gate.weight.rows;
  const int64_t experts = op.router.linear.weight.rows;
  const CpuKernels& kernel = cpu_kernels();

  const backend::Tensor first[] = {op.router.linear.weight, op.gate.weight, op.up.weight};
  bind_normed(op.router.norm, op.x, first);
  const GemmTask router{.linear = op.router.linear, .tokens = rows, .out = router_logits_.data()};
  run_gemms({&router, 1});
  route_topk(router_logits_.data(), experts, op.router.top_k);
  if (hook_) {
    chosen_experts_.resize(pairs);
    for (int64_t i = 0; i < pairs; ++i) chosen_experts_[i] = choices_[i].expert;
    hook_->expert_choices(chosen_experts_.data(), rows, op.router.top_k);
  }

  tasks_.clear();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = expert_offsets_[e], tokens = expert_offsets_[e + 1] - begin;
    if (tokens == 0) continue;
    tasks_.push_back({op.gate, e, &sorted_token_ids_[begin], tokens, &gate_[begin * intermediate]});
    tasks_.push_back({op.up, e, &sorted_token_ids_[begin], tokens, &up_[begin * intermediate]});
  }
  run_gemms(tasks_);

  activations_.bind_and_quantize(
      gate_.data(), pairs, intermediate, {&op.down.weight, 1}, [&](int64_t pair) {
        const int64_t at = pair * intermediate;
        kernel.activate(op.activation, &gate_[at], &up_[at], intermediate);
      });
  tasks_.clear();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = expert_offsets_[e], tokens = expert_offsets_[e + 1] - begin;
    if (tokens == 0) continue;
    tasks_.push_back({op.down, e, &identity_rows_[begin], tokens, &down_[begin * hidden]});
  }
  run_gemms(tasks_);

  parallel_ranges(rows, Activations::grain_rows(hidden), [&](int64_t begin, int64_t end) {
    for (int64_t choice = begin * op.router.top_k; choice < end * op.router.top_k; ++choice) {
      kernel.add_scaled(&down_[inverse_permutation_[choice] * hidden], choices_[choice].weight,
                        hidden, op.x + choice / op.router.top_k * hidden);
    }
  });
  if (hook_) hook_->residual(op.x, rows, hidden);
}

}  // namespace mxgpt::cpu
