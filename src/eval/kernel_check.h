// Every kernel against its double-precision reference, over named edge shapes: `mxgpt validate
// --kernels`, which shows on the machine at hand what the tests showed on ours.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "kernels/cpu/gemm.h"
#include "quant/format.h"

namespace mxgpt::eval {

/// The kernels of one instruction set or device, callable on host memory. What a device does not
/// have apart from its ops is null.
struct KernelSet {
  std::string target;  ///< "cpu scalar"
  std::function<const kernels::GemmKernels&(quant::Format)> formats;
  const cpu::CpuKernels* ops;
};

/// Ops whose work is in the backend itself, callable on host memory.
struct OpRunner {
  std::string target;
  std::function<void(const backend::Batch&, const backend::Embed&)> embed;
  std::function<void(const backend::Batch&, const backend::MoeBlock&)> experts;
};
OpRunner cpu_op_runner();

/// Of all instruction sets of this build that this machine can run.
std::vector<KernelSet> kernel_sets();

struct KernelCheckResult {
  std::string kernel;  ///< "MXFP4 matmul_q16"
  std::string target;
  std::string measure;     ///< what error and bound are
  int64_t num_shapes = 0;  ///< how many were tried
  std::string worst_shape;
  double error = 0, bound = 0;  ///< at the shape where error / bound is largest

  /// False for an error that is NaN.
  bool passes() const { return error <= bound; }
};

/// By kernel; within one, by set in the given order.
std::vector<KernelCheckResult> check_kernels(const std::vector<KernelSet>& sets);

/// The same of the GPU. Throws Error if there is none.
std::vector<KernelCheckResult> check_device_kernels();

/// Its two parts: the matrix tiles, dequantizing and quantizing of every format; all else.
void check_formats(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results);
void check_ops(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results,
               const OpRunner& ops = cpu_op_runner());

/// Adds up what was measured of one kernel, shape by shape, in a result.
class WorstCase {
 public:
  explicit WorstCase(KernelCheckResult& result) : result_(result) {}
  /// The largest error of a shape, and its bound.
  void add(const std::string& shape, double error, double bound);

 private:
  KernelCheckResult& result_;
};

}  // namespace mxgpt::eval
