// Every kernel against its double-precision reference, over named edge shapes: `mxgpt validate
// --kernels`, which shows on the machine at hand what the tests showed on ours.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "formats/format.h"

namespace mxgpt {

/// The kernels of one instruction set or device, callable on host memory. What a device does not
/// have apart from its ops is null.
struct KernelSet {
  std::string target;  ///< "cpu scalar"
  std::function<const Kernels&(Format)> formats;
  const cpu::CpuKernels* ops;
};

/// Ops whose work is in the backend itself, callable on host memory.
struct HostOps {
  std::string target;
  std::function<void(const Batch&, const Embed&)> embed;
  std::function<void(const Batch&, const NormRouteExpertsResidual&)> experts;
};
HostOps cpu_ops();

/// Of all instruction sets of this build that this machine can run.
std::vector<KernelSet> kernel_sets();

struct KernelResult {
  std::string kernel;  ///< "MXFP4 matmul_q16"
  std::string target;
  std::string measure;  ///< what error and bound are
  int64_t shapes = 0;   ///< how many were tried
  std::string worst_shape;
  double error = 0, bound = 0;  ///< at the shape where error / bound is largest

  /// False for an error that is NaN.
  bool holds() const { return error <= bound; }
};

/// By kernel; within one, by set in the given order.
std::vector<KernelResult> check_kernels(const std::vector<KernelSet>& sets);

/// The same of the GPU. Throws Error if there is none.
std::vector<KernelResult> check_cuda_kernels();

/// Its two parts: the matrix tiles, dequantizing and quantizing of every format; all else.
void check_formats(const std::vector<KernelSet>& sets, std::vector<KernelResult>& results);
void check_ops(const std::vector<KernelSet>& sets, std::vector<KernelResult>& results,
               const HostOps& ops = cpu_ops());

/// Adds up what was measured of one kernel, shape by shape, in a result.
class Worst {
 public:
  explicit Worst(KernelResult& result) : result_(result) {}
  /// The largest error of a shape, and its bound.
  void add(const std::string& shape, double error, double bound);

 private:
  KernelResult& result_;
};

}  // namespace mxgpt
