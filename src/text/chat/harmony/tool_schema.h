// Functions as the model sees them: JSON Schema written as the TypeScript dialect of the Harmony
// format.
#pragma once

#include <string>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// How deep a schema may nest before it is refused.
inline constexpr int kMaxSchemaDepth = 64;

/// The "# Tools" section, without a newline at its end. Equal, byte for byte, to what
/// openai-harmony writes, its oddities included: only the first line of a description of several
/// lines becomes a comment, `$ref`, `anyOf` and `const` are `any`, keys are not quoted. Throws
/// Error for a schema nested deeper than kMaxSchemaDepth.
std::string render_tools(const ToolNamespaces& tools);

}  // namespace mxgpt::harmony
