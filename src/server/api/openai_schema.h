// Objects that several of OpenAI's APIs share.
#pragma once

#include "server/api/schema.h"

namespace mxgpt::server::openai {

/// A function that the model may call: the member "function" of a tool in chat completions, the
/// tool itself in responses.
inline constexpr Field kFunction[] = {
    Field{"name", kString, "letters, digits, _ and -"}.required(),
    {"description", kString, "what the function does, shown to the model"},
    {"parameters", kObject, "JSON Schema of the arguments"},
    Field{"strict", kBoolean, "arguments always satisfy the schema"}.ignored(),
};

/// Names one function, in tool_choice.
inline constexpr Field kFunctionName[] = {
    Field{"name", kString, "name of the function"}.required(),
};

/// A JSON schema that the response must satisfy; `schema` is its field "schema".
constexpr std::array<Field, 4> json_schema_format(Field schema) {
  return {{
      Field{"name", kString, "name of the format, shown to the model"}.max_size(64).required(),
      {"description", kString, "shown to the model"},
      schema,
      Field{"strict", kBoolean, "responses always satisfy the schema"}.ignored(),
  }};
}

inline constexpr std::string_view kReasoningEfforts = "low|medium|high";

inline constexpr Field kModel{"model", kString,
                              "name of the model; default: the one that is served"};
inline constexpr Field kParallelToolCalls =
    Field{"parallel_tool_calls", kBoolean, "gpt-oss makes one tool call per turn"}.ignored();
inline constexpr Field kServiceTier =
    Field{"service_tier", kString, "specific to OpenAI's service"}.ignored();
inline constexpr Field kSafetyIdentifier =
    Field{"safety_identifier", kString, "specific to OpenAI's service"}.ignored();
inline constexpr Field kPromptCacheKey =
    Field{"prompt_cache_key", kString, "prompt caching is automatic"}.ignored();

}  // namespace mxgpt::server::openai
