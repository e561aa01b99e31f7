// /v1/chat/completions.
#include <utility>

#include "chat/prepare_chat.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"
#include "server/api/openai_chat/chat_messages.h"
#include "server/api/openai_chat/chat_schema.h"
#include "server/api/openai_chat/chat_writer.h"
#include "server/api/openai_chat/response_format.h"

namespace mxgpt::server {

namespace {

chat::ToolConfig read_tools(const json::Node& body) {
  chat::ToolConfig tools;
  if (const auto list = body.find("tools")) tools.declare({list->raw(), "tools"});
  const auto choice = body.find("tool_choice");
  if (!choice) return tools;
  if (!choice->raw().is_string()) {
    tools.require({std::string((*choice)["function"]["name"].string())}, "tool_choice");
  } else if (choice->string() == "none") {
    tools.disable();
  } else if (choice->string() == "required") {
    tools.require_any("tool_choice");
  }
  return tools;
}

HandlerResult create_chat_completion(const RequestContext& context) {
  const json::Node& body = context.body;
  const auto served = context.api.served_model(body);
  const SamplingFields sampling = read_sampling_fields(body);
  const bool logprobs = body.boolean_or("logprobs", false);
  if (body.find("top_logprobs") && !logprobs)
    throw ApiError(400, "top_logprobs: requires logprobs to be true", "top_logprobs");
  chat::ChatRequest chat{.field = "messages",
                         .items = read_messages(body["messages"]),
                         .tools = read_tools(body),
                         .format = parse_response_format(*served, body),
                         .stops = sampling.stop_strings,
                         .choices = sampling.choices,
                         .sampling = sampling.params};
  if (const auto effort = body.find("reasoning_effort"))
    chat.effort = harmony::effort_from_name(effort->string());
  for (const char* field : {"max_tokens", "max_completion_tokens"}) {
    if (const auto limit = body.find(field)) chat.max_tokens = limit->integer(1, 1'000'000'000);
  }
  if (logprobs)
    chat.top_logprobs =
        static_cast<int>(body.integer_or("top_logprobs", 0, 0, engine::kMaxTopLogprobs));
  chat::PreparedChat prepared = served->prepare_chat(chat);
  prepared.request.priority = sampling.priority;
  prepared.request.deadline = context.api.request_deadline();
  std::vector<engine::Request> requests;
  requests.push_back(std::move(prepared.request));
  return run_completion(context, served, std::move(requests),
                        make_chat_writer(served, sampling, logprobs, std::move(prepared.parsers)),
                        sampling.stream);
}

constexpr Route kRoutes[] = {{"POST", "/v1/chat/completions", "Create a chat completion",
                              create_chat_completion, openai::kChatCompletion}};

}  // namespace

MXGPT_ROUTES(chat_completions) = kRoutes;

}  // namespace mxgpt::server
