#pragma once

namespace mxgpt {

/// "0.1.0", from CMakeLists.txt.
const char* version();

/// The source tree that this program was built from, which holds the shipped model.
const char* source_dir();

}  // namespace mxgpt
