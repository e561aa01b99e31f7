#include "numerics/kernel_check.h"

#include <limits>

#include "backend/cpu/backend.h"
#include "numerics/random_weights.h"

namespace mxgpt {

std::vector<KernelSet> kernel_sets() {
  std::vector<KernelSet> sets;
  for (const Isa isa : present_isas()) {
    sets.push_back({.target = std::string("cpu ") + isa_name(isa),
                    .formats = [isa](Format format) -> const Kernels& {
                      return *traits(format).kernels[static_cast<int>(isa)];
                    },
                    .ops = cpu::cpu_kernels(isa)});
  }
  return sets;
}

HostOps cpu_ops() {
  return {.target = std::string("cpu ") + isa_name(isa()),
          .embed =
              [](const Batch& batch, const Embed& op) {
                const int64_t hidden = op.table.k;
                cpu::Backend backend({.rows = batch.rows(), .hidden = hidden, .widest = hidden},
                                     Precision::standard);
                backend.begin(batch);
                backend.embed(op);
              },
          .experts =
              [](const Batch& batch, const NormRouteExpertsResidual& op) {
                const int64_t hidden = op.norm.weight.k;
                cpu::Backend backend({.rows = batch.rows(),
                                      .hidden = hidden,
                                      .widest = hidden,
                                      .intermediate = op.gate.weight.rows,
                                      .experts = op.router.weight.rows,
                                      .top_k = op.top_k},
                                     Precision::exact);
                backend.begin(batch);
                backend.norm_route_experts_residual(op);
              }};
}

std::vector<KernelResult> check_kernels(const std::vector<KernelSet>& sets) {
  std::vector<KernelResult> results;
  check_formats(sets, results);
  check_ops(sets, results);
  return results;
}

void Worst::add(const std::string& shape, double error, double bound) {
  const auto share = [](double e, double b) {
    if (!(e <= b)) return b > 0 && e > b ? e / b : std::numeric_limits<double>::infinity();
    return b > 0 ? e / b : 0;
  };
  if (result_.shapes++ > 0 && !(share(error, bound) > share(result_.error, result_.bound))) return;
  result_.worst_shape = shape;
  result_.error = error;
  result_.bound = bound;
}

}  // namespace mxgpt
