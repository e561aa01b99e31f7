// Schema of /v1/chat/completions.
#pragma once

#include "server/api/openai_schema.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server::openai {

inline constexpr Field kContentPart[] = {
    Field{"type", kString, "only text parts are supported"}.enum_("text").required(),
    Field{"text", kString, "the text"}.required(),
};

inline constexpr Field kCalledFunction[] = {
    Field{"name", kString, "name of the function"}.required(),
    Field{"arguments", kString, "arguments, a JSON object as a string"}.required(),
};

inline constexpr Field kToolCall[] = {
    Field{"id", kString, "referenced by the tool message"}.required(),
    Field{"type", kString, ""}.enum_("function"),
    Field{"function", kObject, "the call"}.properties(kCalledFunction).required(),
    Field{"index", kInteger, "position in a stream"}.ignored(),
};

inline constexpr Field kMessage[] = {
    Field{"role", kString, "author of the message"}
        .enum_("system|developer|user|assistant|tool")
        .required(),
    Field{"content", kString | kArray, "a string or text parts"}.items(kObject).properties(
        kContentPart),
    Field{"name", kString, "name of the author"}.ignored(),
    {"reasoning_content", kString,
     "reasoning of the assistant; kept until the turn ends in a final answer"},
    {"reasoning", kString, "alias of reasoning_content"},
    Field{"tool_calls", kArray, "tool calls of the assistant"}
        .max_size(128)
        .items(kObject)
        .properties(kToolCall),
    {"tool_call_id", kString, "in a tool message: the call that it answers"},
    Field{"refusal", kString, "specific to OpenAI's service"}.ignored(),
    Field{"annotations", kArray, "specific to OpenAI's service"}.ignored(),
};

inline constexpr Field kTool[] = {
    Field{"type", kString, ""}.enum_("function").required(),
    Field{"function", kObject, "the function"}.properties(kFunction).required(),
};

inline constexpr Field kNamedToolChoice[] = {
    Field{"type", kString, ""}.enum_("function").required(),
    Field{"function", kObject, "the function to call"}.properties(kFunctionName).required(),
};

inline constexpr auto kJsonSchemaFormat = json_schema_format({"schema", kObject, "JSON Schema"});

inline constexpr Field kResponseFormat[] = {
    Field{"type", kString, "form of the response; reasoning is not constrained"}
        .enum_("text|json_object|json_schema|regex|grammar")
        .required(),
    Field{"json_schema", kObject, "for type json_schema"}.properties(kJsonSchemaFormat),
    {"regex", kString, "for type regex: the whole response matches it"},
    {"grammar", kString, "for type grammar: GBNF, whose first rule is root"},
};

inline constexpr auto kChatCompletion = with_sampling({
    kNField,
    Field{"messages", kArray, "the conversation"}
        .max_size(10000)
        .items(kObject)
        .properties(kMessage)
        .required(),
    kModel,
    Field{"max_completion_tokens", kInteger,
          "limit including reasoning; default: the rest of the context", 1, 1e9},
    Field{"max_tokens", kInteger, "older name of max_completion_tokens", 1, 1e9},
    Field{"logprobs", kBoolean, "return log probabilities of the sampled tokens"},
    Field{"top_logprobs", kInteger, "and of this many most likely tokens per position", 0,
          engine::kMaxTopLogprobs},
    Field{"reasoning_effort", kString, "how much gpt-oss reasons"}.enum_(kReasoningEfforts),
    Field{"response_format", kObject, "constrains the response"}.properties(kResponseFormat),
    Field{"tools", kArray, "functions that the model may call"}
        .max_size(128)
        .items(kObject)
        .properties(kTool),
    Field{"tool_choice", kString | kObject, "whether to call a tool, and which"}
        .enum_("auto|none|required")
        .properties(kNamedToolChoice),
    kParallelToolCalls,
    Field{"metadata", kObject, "for the client's own use"}.ignored(),
    Field{"store", kBoolean, "chat completions are not stored"}.ignored(),
    kServiceTier,
    kSafetyIdentifier,
    kPromptCacheKey,
});

}  // namespace mxgpt::server::openai
