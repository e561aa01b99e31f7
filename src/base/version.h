#pragma once

namespace mxgpt {

/// "0.1.0", from CMakeLists.txt.
const char* version();

/// The source tree this program was built from; the shipped model is looked for there.
const char* source_dir();

}  // namespace mxgpt
