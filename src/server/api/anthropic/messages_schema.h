// Schema of /v1/messages and /v1/messages/count_tokens.
#pragma once

#include "server/api/sampling_fields.h"

namespace mxgpt::server::anthropic {

inline constexpr Field kCacheControl =
    Field{"cache_control", kObject, "prompt caching is automatic"}.ignored();

inline constexpr Field kText[] = {
    Field{"text", kString, "the text"}.required(),
    Field{"citations", kArray, "specific to Anthropic's service"}.ignored(),
    kCacheControl,
};
inline constexpr Variant kTextBlocks[] = {{"text", kText}};

inline constexpr Field kThinkingBlock[] = {
    Field{"thinking", kString, "kept until the turn ends in a final answer"}.required(),
    Field{"signature", kString, "specific to Anthropic's service"}.ignored(),
    kCacheControl,
};

inline constexpr Field kToolUse[] = {
    Field{"id", kString, "referenced by the tool result"}.required(),
    Field{"name", kString, "name of the tool"}.required(),
    Field{"input", kObject, "arguments of the call"}.required(),
    Field{"caller", kObject, "specific to Anthropic's service"}.ignored(),
    kCacheControl,
};

inline constexpr Field kToolResult[] = {
    Field{"tool_use_id", kString, "the call that it answers"}.required(),
    Field{"content", kString | kArray, "a string or text blocks"}.items(kObject).any_of(
        kTextBlocks),
    Field{"is_error", kBoolean, "gpt-oss infers it from the content"}.ignored(),
    kCacheControl,
};

inline constexpr Variant kBlocks[] = {{"text", kText},
                                      {"thinking", kThinkingBlock},
                                      {"tool_use", kToolUse},
                                      {"tool_result", kToolResult}};

inline constexpr Field kMessage[] = {
    Field{"role", kString, "author of the message"}.enum_("user|assistant").required(),
    Field{"content", kString | kArray, "a string or blocks"}
        .items(kObject)
        .any_of(kBlocks)
        .required(),
};

inline constexpr Field kTool[] = {
    Field{"name", kString, "letters, digits, _ and -"}.required(),
    {"description", kString, "what the tool does, shown to the model"},
    Field{"input_schema", kObject, "JSON Schema of the arguments"}.required(),
    Field{"strict", kBoolean, "arguments always satisfy the schema"}.ignored(),
    Field{"eager_input_streaming", kBoolean, "arguments are always streamed"}.ignored(),
    kCacheControl,
};
inline constexpr Variant kTools[] = {{"custom", kTool}};

inline constexpr Field kParallel =
    Field{"disable_parallel_tool_use", kBoolean, "gpt-oss makes one tool call per turn"}.ignored();
inline constexpr Field kAnyToolChoice[] = {kParallel};
inline constexpr Field kNamedToolChoice[] = {Field{"name", kString, "the tool to call"}.required(),
                                             kParallel};
inline constexpr Variant kToolChoices[] = {{"auto", kAnyToolChoice},
                                           {"any", kAnyToolChoice},
                                           {"tool", kNamedToolChoice},
                                           {"none", kAnyToolChoice}};

inline constexpr Field kDisplay =
    Field{"display", kString, "omitted: thinking is not returned"}.enum_("summarized|omitted");
inline constexpr Field kThinkingEnabled[] = {
    Field{"budget_tokens", kInteger, "effort: low below 4096, medium below 16384, else high", 1,
          1e9}
        .required(),
    kDisplay,
};
inline constexpr Field kThinkingAdaptive[] = {kDisplay};
inline constexpr Variant kThinking[] = {{"enabled", kThinkingEnabled},
                                        {"adaptive", kThinkingAdaptive},
                                        {"disabled", Schema::empty_object()}};

inline constexpr Field kJsonSchema[] = {Field{"schema", kObject, "JSON Schema"}.required()};
inline constexpr Variant kFormats[] = {{"json_schema", kJsonSchema}};
inline constexpr Field kOutputConfig[] = {
    Field{"effort", kString, "how much gpt-oss reasons; xhigh and max are the same as high"}.enum_(
        "low|medium|high|xhigh|max"),
    Field{"format", kObject, "form of the response; thinking is not constrained"}.any_of(kFormats),
};

inline constexpr Field kPrompt[] = {
    Field{"messages", kArray, "the conversation"}.items(kObject).properties(kMessage).required(),
    Field{"model", kString, "name of the model; default: the one that is served"},
    Field{"system", kString | kArray, "the system prompt"}.items(kObject).any_of(kTextBlocks),
    Field{"tools", kArray, "functions that the model may call"}
        .max_size(128)
        .items(kObject)
        .any_of(kTools)
        .type_optional(),
    Field{"tool_choice", kObject, "whether to call a tool, and which"}.any_of(kToolChoices),
    Field{"thinking", kObject, "whether thinking is returned, and the reasoning effort"}.any_of(
        kThinking),
    Field{"output_config", kObject, "options of the response"}.properties(kOutputConfig),
    kCacheControl,
};

inline constexpr Field kGeneration[] = {
    Field{"max_tokens", kInteger, "limit including thinking", 1, 1e9}.required(),
    Field{"stop_sequences", kArray, "the response ends before any of these strings"}
        .max_size(kMaxStops)
        .items(kString),
    Field{"metadata", kObject, "for the client's own use"}.ignored(),
    Field{"service_tier", kString, "specific to Anthropic's service"}.ignored(),
};

inline constexpr auto kCreateMessage = with_sampling(concat(kPrompt, kGeneration));

}  // namespace mxgpt::server::anthropic
