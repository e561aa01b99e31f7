// The device kernels of every format, from the list.
#include "formats/device.h"

namespace mxgpt {

namespace formats {
#define MXGPT_DECLARE(folder) extern const DeviceKernels folder##_device;
MXGPT_FORMATS(MXGPT_DECLARE)
#undef MXGPT_DECLARE
}  // namespace formats

const DeviceKernels& device_kernels(Format format) {
  static constexpr const DeviceKernels* kKernels[] = {
#define MXGPT_ROW(folder) &formats::folder##_device,
      MXGPT_FORMATS(MXGPT_ROW)
#undef MXGPT_ROW
  };
  return *kKernels[static_cast<int>(format)];
}

}  // namespace mxgpt
