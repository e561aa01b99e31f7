#include "model/architecture.h"

#include <algorithm>

namespace mxgpt {

namespace {
constexpr const Architecture* kArchitectures[] = {
#define MXGPT_ROW(name) &architectures::name,
    MXGPT_ARCHITECTURES(MXGPT_ROW)
#undef MXGPT_ROW
};
}  // namespace

const Architecture* architecture_of_gguf(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (a->gguf == name) return a;
  }
  return nullptr;
}

const Architecture* architecture_of_model_type(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (std::find(a->model_types.begin(), a->model_types.end(), name) != a->model_types.end())
      return a;
  }
  return nullptr;
}

std::string known_architectures() {
  std::string names;
  for (const Architecture* a : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += a->gguf;
  }
  return names;
}

}  // namespace mxgpt
