#include "model/architecture.h"

#include <algorithm>

namespace mxgpt::model {

namespace {
constexpr const Architecture* kArchitectures[] = {
#define MXGPT_ROW(name) &architectures::name,
    MXGPT_ARCHITECTURES(MXGPT_ROW)
#undef MXGPT_ROW
};
}  // namespace

const Architecture* find_architecture_by_gguf_name(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (a->gguf == name) return a;
  }
  return nullptr;
}

const Architecture* find_architecture_by_model_type(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (std::find(a->model_types.begin(), a->model_types.end(), name) != a->model_types.end())
      return a;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string names;
  for (const Architecture* a : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += a->gguf;
  }
  return names;
}

}  // namespace mxgpt::model
