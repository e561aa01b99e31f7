#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace mxgpt::kernels {

#if defined(__x86_64__)
/// clang 14's __builtin_cpu_supports does not know F16C.
static bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return true;
      // __builtin_cpu_supports also checks XCR0: whether the operating system saves the wide
      // registers.
#if defined(__x86_64__)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::avx512:
      return isa_supported(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
    default:
      return false;
  }
}

namespace {

Isa select_isa() {
  if (const char* forced = std::getenv("MXGPT_ISA"); forced && *forced) {
    for (int i = 0; i < kIsaCount; ++i) {
      const Isa candidate = static_cast<Isa>(i);
      if (std::string_view(forced) != isa_name(candidate)) continue;
      if (!isa_supported(candidate)) {
        throw Error("MXGPT_ISA", std::string("this processor has no ") + forced, "unset it");
      }
      return candidate;
    }
    throw Error("MXGPT_ISA", std::string("'") + forced + "' is not an instruction set",
                "use scalar, avx2 or avx512, or unset it");
  }
  Isa best = Isa::scalar;
  for (int i = 0; i < kIsaCount; ++i) {
    if (isa_supported(static_cast<Isa>(i))) best = static_cast<Isa>(i);
  }
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = select_isa();
  return chosen;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

}  // namespace mxgpt::kernels
