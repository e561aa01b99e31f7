#include "base/version.h"

namespace mxgpt {

const char* version() {
  return MXGPT_VERSION;
}
const char* source_dir() {
  return MXGPT_SOURCE_DIR;
}

}  // namespace mxgpt
