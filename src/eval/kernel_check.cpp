#include "eval/kernel_check.h"

#include <limits>

#include "backend/cpu/backend.h"
#include "eval/random_weights.h"

namespace mxgpt::eval {

std::vector<KernelSet> kernel_sets() {
  std::vector<KernelSet> sets;
  for (const kernels::Isa isa : supported_isas()) {
    sets.push_back({.target = std::string("cpu ") + kernels::isa_name(isa),
                    .formats = [isa](quant::Format format) -> const kernels::GemmKernels& {
                      return kernels::gemm_kernels(format, isa);
                    },
                    .ops = cpu::cpu_kernels(isa)});
  }
  return sets;
}

OpRunner cpu_op_runner() {
  return {.target = std::string("cpu ") + kernels::isa_name(kernels::isa()),
          .embed =
              [](const backend::Batch& batch, const backend::Embed& op) {
                const int64_t hidden = op.table.k;
                cpu::CpuBackend backend(
                    {.rows = batch.rows(), .hidden = hidden, .max_linear_width = hidden},
                    backend::Precision::mixed);
                backend.begin_step(batch);
                backend.embed(op);
              },
          .experts =
              [](const backend::Batch& batch, const backend::MoeBlock& op) {
                const int64_t hidden = op.router.norm.weight.k;
                cpu::CpuBackend backend({.rows = batch.rows(),
                                         .hidden = hidden,
                                         .max_linear_width = hidden,
                                         .intermediate = op.gate.weight.rows,
                                         .experts = op.router.linear.weight.rows,
                                         .top_k = op.router.top_k},
                                        backend::Precision::exact);
                backend.begin_step(batch);
                backend.moe_block(op);
              }};
}

std::vector<KernelCheckResult> check_kernels(const std::vector<KernelSet>& sets) {
  std::vector<KernelCheckResult> results;
  check_formats(sets, results);
  check_ops(sets, results);
  return results;
}

void WorstCase::add(const std::string& shape, double error, double bound) {
  const auto relative = [](double e, double b) {
    if (!(e <= b)) return b > 0 && e > b ? e / b : std::numeric_limits<double>::infinity();
    return b > 0 ? e / b : 0;
  };
  if (result_.num_shapes++ > 0 &&
      !(relative(error, bound) > relative(result_.error, result_.bound)))
    return;
  result_.worst_shape = shape;
  result_.error = error;
  result_.bound = bound;
}

}  // namespace mxgpt::eval
