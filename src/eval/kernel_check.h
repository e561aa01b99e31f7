// Checks every kernel against its double-precision reference at edge-case shapes, on the machine
// that the program runs on.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "kernels/cpu/gemm.h"
#include "quant/format.h"

namespace mxgpt::eval {

/// Kernels of one instruction set or device, callable on host memory. Kernels that a device has
/// only as part of an op are null.
struct KernelSet {
  std::string target;  ///< "cpu scalar"
  std::function<const kernels::GemmKernels&(quant::Format)> formats;
  const cpu::CpuKernels* ops;
};

/// Ops that are implemented by the backend itself, callable on host memory.
struct OpRunner {
  std::string target;
  std::function<void(const backend::Batch&, const backend::Embed&)> embed;
  std::function<void(const backend::Batch&, const backend::MoeBlock&)> experts;
};
OpRunner cpu_op_runner();

/// Kernels of every instruction set that the build has and this machine supports.
std::vector<KernelSet> kernel_sets();

struct KernelCheckResult {
  std::string kernel;  ///< "MXFP4 matmul_q16"
  std::string target;
  std::string measure;     ///< meaning of error and bound
  int64_t num_shapes = 0;  ///< number of shapes tried
  std::string worst_shape;
  double error = 0, bound = 0;  ///< at the shape with the largest error / bound

  /// A NaN error does not pass.
  bool passes() const { return error <= bound; }
};

/// Results by kernel; within a kernel, in the order of `sets`.
std::vector<KernelCheckResult> check_kernels(const std::vector<KernelSet>& sets);

/// The same for the accelerator device. Throws Error if there is none.
std::vector<KernelCheckResult> check_device_kernels();

/// The two parts of check_kernels: matrix products, dequantize and quantize of every format;
/// everything else.
void check_formats(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results);
void check_ops(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results,
               const OpRunner& ops = cpu_op_runner());

/// Collects the worst case of one kernel over shapes.
class WorstCase {
 public:
  explicit WorstCase(KernelCheckResult& result) : result_(result) {}
  /// Adds the largest error at a shape, and its bound.
  void add(const std::string& shape, double error, double bound);

 private:
  KernelCheckResult& result_;
};

}  // namespace mxgpt::eval
