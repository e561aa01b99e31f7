// Structured output: from JSON Schema to the form of an answer or of a tool's arguments.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "chat/chat_request.h"
#include "chat/constraints/grammar_compiler.h"

namespace mxgpt::chat {

/// Any JSON object. These throw what GrammarCompiler does, naming `field`.
ResponseFormat json_object_format(GrammarCompiler& compiler, const std::string& field);

/// JSON that satisfies a schema, which the model is shown under `name`.
struct NamedSchema {
  std::string_view name;
  std::string_view description;         ///< may be empty
  const json::value* schema = nullptr;  ///< null: any object
};
ResponseFormat json_schema_format(GrammarCompiler& compiler, const NamedSchema& schema,
                                  const std::string& field);

/// The arguments of a function: its schema, or any JSON object.
std::shared_ptr<const Grammar> tool_arguments_grammar(GrammarCompiler& compiler,
                                                      const harmony::ToolDescription& tool);

}  // namespace mxgpt::chat
