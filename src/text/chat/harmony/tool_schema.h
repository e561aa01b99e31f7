// Renders tools for the prompt: JSON Schema in the TypeScript dialect of the Harmony format.
#pragma once

#include <string>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// Maximum nesting depth of a schema.
inline constexpr int kMaxSchemaDepth = 64;

/// The "# Tools" section, without a trailing newline. Byte-identical to openai-harmony, including
/// its quirks: only the first line of a multi-line description becomes a comment; `$ref`, `anyOf`
/// and `const` become `any`; keys are not quoted. Throws Error for a schema nested deeper than
/// kMaxSchemaDepth.
std::string render_tools(const ToolNamespaces& tools);

}  // namespace mxgpt::harmony
