#include "runtime/device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace mxgpt::runtime {

// A device is a file that defines one of these functions, and a line in kDevices.
const Device& cpu_device();
const Device& cuda_device();

namespace {
constexpr const Device& (*kDevices[])() = {cpu_device, cuda_device};
}  // namespace

const Device& device(std::string_view name) {
  for (const auto& get : kDevices) {
    if (get().name() == name) return get();
  }
  throw Error(field::kDevice, fmt::format("'{}' is unknown", name),
              fmt::format("use one of: {}", fmt::join(device_names(), ", ")));
}

std::vector<std::string_view> device_names() {
  std::vector<std::string_view> names;
  for (const auto& get : kDevices) names.push_back(get().name());
  return names;
}

}  // namespace mxgpt::runtime
