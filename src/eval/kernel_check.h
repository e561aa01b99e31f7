// Checks every kernel against its double-precision reference at edge-case shapes, on the machine
// that the program runs on.
#pragma once

#include <string>
#include <vector>

#include "backend/kernel_set.h"

namespace mxgpt::eval {

using backend::KernelSet;
using backend::OpRunner;

OpRunner cpu_op_runner();

/// Kernels of every instruction set that the build has and this machine supports.
std::vector<KernelSet> kernel_sets();

struct KernelCheckResult {
  std::string kernel;  ///< "MXFP4 matmul_int16"
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

/// The same for a device other than the CPU, and its additional kernels.
std::vector<KernelCheckResult> check_device_kernels(const std::vector<KernelSet>& sets,
                                                    const OpRunner& ops);

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
