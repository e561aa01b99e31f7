// `mxgpt validate --kernels`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/file_writer.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/validate.h"
#include "eval/kernel_check.h"
#include "runtime/device.h"

namespace mxgpt::cli {

int validate_kernels(const ValidateOptions& options) {
  const runtime::Device& device = runtime::device(options.device.device);
  const std::vector<eval::KernelCheckResult> results =
      device.is_host() ? eval::check_kernels(eval::kernel_sets())
                       : eval::check_device_kernels(device.kernel_sets(), device.op_runner());
  size_t kernel_width = 6, shape_width = 5, measure_width = 7;
  for (const eval::KernelCheckResult& r : results) {
    kernel_width = std::max(kernel_width, r.kernel.size());
    shape_width = std::max(shape_width, r.worst_shape.size());
    measure_width = std::max(measure_width, r.measure.size());
  }
  // Widths count bytes of UTF-8 here and characters in fmt, so columns may be wider than needed.
  fmt::print("{:<{}}  {:<10}  {:<{}}  {:>9}  {:>9}  {:<{}}\n", "kernel", kernel_width, "target",
             "measure", measure_width, "error", "bound", "worst shape", shape_width);
  json::array list;
  int64_t failed = 0, shapes = 0;
  for (const eval::KernelCheckResult& r : results) {
    fmt::print("{:<{}}  {:<10}  {:<{}}  {:>9.2e}  {:>9.2e}  {:<{}}  {}\n", r.kernel, kernel_width,
               r.target, r.measure, measure_width, r.error, r.bound, r.worst_shape, shape_width,
               r.passes() ? "" : "FAIL");
    failed += !r.passes();
    shapes += r.num_shapes;
    // JSON has no NaN.
    const json::value error = std::isfinite(r.error) ? json::value(r.error) : json::value(nullptr);
    list.push_back(json::object{{"kernel", r.kernel},
                                {"target", r.target},
                                {"measure", r.measure},
                                {"error", error},
                                {"bound", r.bound},
                                {"worst_shape", r.worst_shape},
                                {"shapes", r.num_shapes},
                                {"passes", r.passes()}});
  }
  fmt::print("\n{}: {} kernels at {} shapes, {} out of bounds\n", failed ? "FAIL" : "pass",
             results.size(), shapes, failed);
  if (!options.json.empty()) {
    FileWriter out(options.json);
    out.write(json::serialize(json::object{{"passes", failed == 0}, {"kernels", std::move(list)}}));
    out.write("\n");
    out.commit();
  }
  return failed ? kFailed : kOk;
}

}  // namespace mxgpt::cli
