#include "quant/format.h"

#include <strings.h>

namespace mxgpt::quant {

namespace formats {
#define MXGPT_DECLARE(folder) extern const FormatTraits folder##_traits;
MXGPT_FORMATS(MXGPT_DECLARE)
#undef MXGPT_DECLARE
}  // namespace formats

namespace {
constexpr const FormatTraits* kTraits[] = {
#define MXGPT_ROW(folder) &formats::folder##_traits,
    MXGPT_FORMATS(MXGPT_ROW)
#undef MXGPT_ROW
};
}  // namespace

const FormatTraits& traits(Format format) {
  return *kTraits[static_cast<int>(format)];
}

std::optional<Format> format_from_ggml_type(uint32_t type) {
  for (int i = 0; i < kFormatCount; ++i) {
    if (kTraits[i]->ggml_type == type) return static_cast<Format>(i);
  }
  return std::nullopt;
}

std::optional<Format> format_from_name(std::string_view name) {
  for (int i = 0; i < kFormatCount; ++i) {
    const std::string_view known = kTraits[i]->name;
    if (known.size() == name.size() && ::strncasecmp(known.data(), name.data(), name.size()) == 0) {
      return static_cast<Format>(i);
    }
  }
  return std::nullopt;
}

}  // namespace mxgpt::quant
