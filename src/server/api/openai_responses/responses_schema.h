// Schema of /v1/responses.
#pragma once

#include "server/api/openai_schema.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server::openai {

inline constexpr Field kItemId{"id", kString, "id of the item"};
inline constexpr Field kItemStatus =
    Field{"status", kString, "state of the item"}.enum_("in_progress|completed|incomplete");

inline constexpr Field kText[] = {
    Field{"text", kString, "the text"}.required(),
    Field{"annotations", kArray, "specific to OpenAI's service"}.ignored(),
    Field{"logprobs", kArray, "as returned in a response"}.ignored(),
    Field{"parsed", 0, "added by client libraries"}.ignored(),
};
inline constexpr Field kRefusal[] = {Field{"refusal", kString, "the text"}.required()};
inline constexpr Variant kItemParts[] = {
    {"input_text", kText}, {"output_text", kText}, {"refusal", kRefusal}};

inline constexpr Field kMessageItem[] = {
    Field{"role", kString, "author of the message"}
        .enum_("user|assistant|system|developer")
        .required(),
    Field{"content", kString | kArray, "a string or parts"}
        .items(kObject)
        .any_of(kItemParts)
        .required(),
    Field{"phase", kString, "of the assistant: commentary precedes a tool call"}.enum_(
        "commentary|final_answer"),
    kItemId,
    kItemStatus,
};

inline constexpr Variant kSummaryParts[] = {{"summary_text", kText}};
inline constexpr Variant kReasoningParts[] = {{"reasoning_text", kText}};
inline constexpr Field kReasoningItem[] = {
    Field{"summary", kArray, "used if content is empty"}.items(kObject).any_of(kSummaryParts),
    Field{"content", kArray, "kept until the turn ends in a final answer"}.items(kObject).any_of(
        kReasoningParts),
    Field{"encrypted_content", kString, "specific to OpenAI's service"}.ignored(),
    kItemId,
    kItemStatus,
};

inline constexpr Field kFunctionCallItem[] = {
    Field{"call_id", kString, "referenced by the output of the call"}.required(),
    Field{"name", kString, "name of the function"}.required(),
    Field{"arguments", kString, "arguments, a JSON object as a string"}.required(),
    Field{"parsed_arguments", 0, "added by client libraries"}.ignored(),
    kItemId,
    kItemStatus,
};

inline constexpr Field kFunctionOutputItem[] = {
    Field{"call_id", kString, "the call that it answers"}.required(),
    Field{"output", kString | kArray, "a string or parts"}
        .items(kObject)
        .any_of(kItemParts)
        .required(),
    kItemId,
    kItemStatus,
};

inline constexpr Variant kItems[] = {{"message", kMessageItem},
                                     {"reasoning", kReasoningItem},
                                     {"function_call", kFunctionCallItem},
                                     {"function_call_output", kFunctionOutputItem}};

inline constexpr Variant kTools[] = {{"function", kFunction}};
inline constexpr Variant kNamedTools[] = {{"function", kFunctionName}};
inline constexpr Field kAllowedTools[] = {
    Field{"mode", kString, "whether one of them must be called"}.enum_("auto|required").required(),
    Field{"tools", kArray, "the tools that may be called"}
        .items(kObject)
        .any_of(kNamedTools)
        .required(),
};
inline constexpr Variant kToolChoices[] = {{"function", kFunctionName},
                                           {"allowed_tools", kAllowedTools}};

inline constexpr auto kRequiredJsonSchema =
    json_schema_format(Field{"schema", kObject, "JSON Schema"}.required());
inline constexpr Variant kTextFormats[] = {{"text", Schema::empty_object()},
                                           {"json_object", Schema::empty_object()},
                                           {"json_schema", kRequiredJsonSchema}};
inline constexpr Field kTextOptions[] = {
    Field{"format", kObject, "form of the response; reasoning is not constrained"}.any_of(
        kTextFormats),
    Field{"verbosity", kString, "gpt-oss has no such setting"}.enum_("low|medium|high").ignored(),
};

inline constexpr Field kReasoningOptions[] = {
    Field{"effort", kString, "how much gpt-oss reasons"}.enum_(kReasoningEfforts),
    Field{"summary", kString, "reasoning is returned in full"}.ignored(),
    Field{"generate_summary", kString, "older name of summary"}.ignored(),
};

inline constexpr auto kResponse = with_sampling({
    Field{"input", kString | kArray, "a user message, or items"}
        .items(kObject)
        .any_of(kItems)
        .type_optional()
        .required(),
    kModel,
    Field{"instructions", kString, "system prompt of this response only"},
    Field{"previous_response_id", kString, "the response that this one continues"}.max_size(256),
    Field{"store", kBoolean, "store the response; default true"},
    Field{"max_output_tokens", kInteger,
          "limit including reasoning; default: the rest of the context", 1, 1e9},
    Field{"tools", kArray, "functions that the model may call"}.max_size(128).items(kObject).any_of(
        kTools),
    Field{"tool_choice", kString | kObject, "whether to call a tool, and which"}
        .enum_("auto|none|required")
        .any_of(kToolChoices),
    kParallelToolCalls,
    Field{"text", kObject, "options of the response text"}.properties(kTextOptions),
    Field{"reasoning", kObject, "options of reasoning"}.properties(kReasoningOptions),
    Field{"truncation", kString, "auto: drop the oldest turns if the prompt is too long"}.enum_(
        "auto|disabled"),
    Field{"include", kArray, "message.output_text.logprobs; others have no effect"}
        .max_size(16)
        .items(kString),
    Field{"top_logprobs", kInteger, "log probabilities, with this many most likely tokens", 0,
          engine::kMaxTopLogprobs},
    Field{"metadata", kObject, "stored with the response"},
    Field{"background", kBoolean, "only false is supported"},
    kServiceTier,
    kSafetyIdentifier,
    kPromptCacheKey,
    Field{"prompt_cache_retention", kString, "specific to OpenAI's service"}.ignored(),
});

}  // namespace mxgpt::server::openai
