// The error of an allocation that does not fit in a device's memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace mxgpt::backend {

/// The device has too little memory; what() begins with VRAM_OOM. The refused work was not done,
/// and the device stays usable.
struct OutOfDeviceMemory : Error {
  OutOfDeviceMemory(const std::string& where, const std::string& problem, const std::string& fix,
                    int64_t needed_bytes, int64_t available_bytes)
      : Error(where, problem, fix), needed(needed_bytes), available(available_bytes) {}
  int64_t needed, available;  ///< bytes
};

}  // namespace mxgpt::backend
