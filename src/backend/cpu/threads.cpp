#include "backend/cpu/threads.h"

#include <unistd.h>

#include <cstdlib>

namespace mxgpt::cpu {

void limit_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("GOMP_SPINCOUNT", "1000", 1);
  ::execv("/proc/self/exe",
          argv);  // returns only if it failed, and then spinning costs no more than time
}

}  // namespace mxgpt::cpu
