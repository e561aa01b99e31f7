// The shipped model, gpt-oss-nano.
#pragma once

#include <filesystem>

#include "runtime/model.h"

namespace mxgpt {

inline const std::filesystem::path kNano =
    std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano";

/// Opened on first use and shared by the tests of a program.
inline const runtime::Model& nano() {
  static const auto model = runtime::Model::open(kNano);
  return *model;
}

}  // namespace mxgpt
