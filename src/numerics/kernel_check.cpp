#include "numerics/kernel_check.h"

#include <limits>

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
