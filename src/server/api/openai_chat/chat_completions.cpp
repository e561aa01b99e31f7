// /v1/chat/completions.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/version.h"
#include "chat/prepare_chat.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"
#include "server/api/logprobs.h"
#include "server/api/openai_chat/chat_messages.h"
#include "server/api/openai_chat/response_format.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server {

namespace {

constexpr Field kFunctionTable[] = {
    Field{"name", kString, "letters, digits, _ and -"}.required(),
    {"description", kString, "what it does"},
    {"parameters", kObject, "JSON Schema of its arguments"},
    Field{"strict", kBoolean, "arguments always hold to the schema here"}.ignored(),
};
constexpr Schema kFunctionFields = kFunctionTable;

constexpr Field kToolTable[] = {
    Field{"type", kString, ""}.enum_("function").required(),
    Field{"function", kObject, "the function"}.properties(&kFunctionFields).required(),
};
constexpr Schema kToolFields = kToolTable;

constexpr Field kNamedTable[] = {Field{"name", kString, "the function"}.required()};
constexpr Schema kNamedFields = kNamedTable;

constexpr Field kToolChoiceTable[] = {
    Field{"type", kString, ""}.enum_("function").required(),
    Field{"function", kObject, "the one to call"}.properties(&kNamedFields).required(),
};
constexpr Schema kToolChoiceFields = kToolChoiceTable;

const auto kChatTable = with_sampling({
    kNField,
    Field{"messages", kArray, "the conversation"}
        .max_size(10000)
        .items(kObject)
        .properties(&kMessageSchema)
        .required(),
    Field{"model", kString, "the model's name; default: the one there is"},
    Field{"max_completion_tokens", kInteger,
          "reasoning included; default: until the context is full", 1, 1e9},
    Field{"max_tokens", kInteger, "older name of max_completion_tokens", 1, 1e9},
    Field{"logprobs", kBoolean, "log-probabilities of each token"},
    Field{"top_logprobs", kInteger, "and of so many of the likeliest at its place", 0,
          engine::kMaxTopLogprobs},
    Field{"reasoning_effort", kString, "how much gpt-oss reasons"}.enum_("low|medium|high"),
    Field{"response_format", kObject, "what the answer must be"}.properties(&kResponseFormatSchema),
    Field{"tools", kArray, "functions that the model may call"}
        .max_size(128)
        .items(kObject)
        .properties(&kToolFields),
    Field{"tool_choice", kString | kObject, "whether and what it calls"}
        .enum_("auto|none|required")
        .properties(&kToolChoiceFields),
    Field{"parallel_tool_calls", kBoolean, "a permission: gpt-oss makes one call at a time"}
        .ignored(),
    Field{"metadata", kObject, "for the client's own use"}.ignored(),
    Field{"store", kBoolean, "chats are not stored"}.ignored(),
    Field{"service_tier", kString, "of OpenAI's"}.ignored(),
    Field{"safety_identifier", kString, "of OpenAI's"}.ignored(),
    Field{"prompt_cache_key", kString, "prompts are cached by themselves"}.ignored(),
});

class ChatWriter : public ResponseWriter {
 public:
  ChatWriter(std::shared_ptr<const ServedModel> served, const SamplingFields& sampling,
             bool logprobs, std::vector<std::unique_ptr<chat::OutputParser>> parsers)
      : served_(std::move(served)),
        stream_(sampling.stream),
        include_usage_(sampling.include_usage),
        logprobs_(logprobs) {
    for (auto& parser : parsers) {
      choices_.push_back({std::move(parser)});
      if (stream_) emit(choices_.size() - 1, {{"role", "assistant"}, {"content", ""}});
    }
  }

  bool on_token(int number, const engine::ChoiceToken& token) override {
    Choice& choice = choices_[number];
    std::vector<chat::OutputDelta> deltas;
    const bool more = choice.parser->push(token.token, deltas);
    ++usage_.completion;
    const auto kind = choice.parser->current_kind();
    if (kind == chat::OutputDelta::Kind::reasoning) ++usage_.reasoning;
    if (logprobs_ && kind && kind != chat::OutputDelta::Kind::arguments) {
      (kind == chat::OutputDelta::Kind::reasoning ? choice.reasoning_logprobs
                                                  : choice.content_logprobs)
          .push_back(chat_logprob(*served_, token));
    }
    add_deltas(number, deltas);
    return more;
  }

  void on_end(int number, const engine::ChoiceEnd& end, bool length) override {
    Choice& choice = choices_[number];
    std::vector<chat::OutputDelta> deltas;
    choice.parser->finish(deltas);
    add_deltas(number, deltas);
    usage_.prompt = end.prompt_tokens;
    usage_.cached = std::max(usage_.cached, end.cached_tokens);
    choice.finish_reason = length ? "length" : choice.calls.empty() ? "stop" : "tool_calls";
    if (stream_) emit(static_cast<size_t>(number), {}, choice.finish_reason);
  }

  void drain_events(std::string& out) override { out += std::exchange(events_, {}); }

  void finish_events(std::string& out) override {
    if (include_usage_) {
      json::object chunk = envelope("chat.completion.chunk");
      chunk["choices"] = json::array();
      chunk["usage"] = usage_.json();
      append_event(out, json::serialize(chunk));
    }
    append_event(out, kDone);
  }

  std::string body() override {
    json::array list;
    for (size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      json::object message{{"role", "assistant"}, {"content", nullptr}, {"refusal", nullptr}};
      if (!choice.content.empty() || choice.calls.empty()) message["content"] = choice.content;
      if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
      if (!choice.calls.empty()) {
        json::array& calls = message["tool_calls"].emplace_array();
        for (const ToolCall& call : choice.calls) calls.push_back(tool_call_json(call));
      }
      list.push_back({{"index", i},
                      {"message", std::move(message)},
                      {"logprobs", drain_logprobs(choice)},
                      {"finish_reason", choice.finish_reason}});
    }
    json::object out = envelope("chat.completion");
    out["choices"] = std::move(list);
    out["usage"] = usage_.json();
    return json::serialize(out);
  }

 private:
  struct ToolCall {
    std::string id, name, arguments;
  };
  struct Choice {
    std::unique_ptr<chat::OutputParser> parser;
    std::string content, reasoning;  // of a stream, empty
    std::vector<ToolCall> calls;
    json::array content_logprobs, reasoning_logprobs;
    const char* finish_reason = nullptr;
  };

  static json::object tool_call_json(const ToolCall& call) {
    return {{"id", call.id},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }

  json::value drain_logprobs(Choice& choice) {
    if (!logprobs_) return nullptr;
    return {{"content", std::exchange(choice.content_logprobs, {})},
            {"reasoning_content", std::exchange(choice.reasoning_logprobs, {})},
            {"refusal", nullptr}};
  }

  json::object envelope(const char* kind) const {
    return {{"id", id_},
            {"object", kind},
            {"created", created_},
            {"model", served_->name()},
            {"system_fingerprint", fmt::format("mxgpt-{}", version())}};
  }

  void emit(size_t number, json::object delta, const char* finish = nullptr) {
    json::object one{{"index", number}, {"delta", std::move(delta)}};
    const bool has_logprobs =
        !choices_[number].content_logprobs.empty() || !choices_[number].reasoning_logprobs.empty();
    one["logprobs"] = has_logprobs ? drain_logprobs(choices_[number]) : nullptr;
    one["finish_reason"] = finish ? json::value(finish) : json::value(nullptr);
    append_event(events_,
                 fmt::format(R"({},"choices":[{}]{}}})", chunk_prefix_, json::serialize(one),
                             include_usage_ ? R"(,"usage":null)" : ""));
  }

  void add_deltas(int number, std::vector<chat::OutputDelta>& deltas) {
    Choice& choice = choices_[number];
    for (chat::OutputDelta& output : deltas) {
      json::object delta;
      switch (output.kind) {
        case chat::OutputDelta::Kind::reasoning:
          if (!stream_) choice.reasoning += output.text;
          delta["reasoning_content"] = std::move(output.text);
          break;
        case chat::OutputDelta::Kind::content:
          if (!stream_) choice.content += output.text;
          delta["content"] = std::move(output.text);
          break;
        case chat::OutputDelta::Kind::tool_call: {
          choice.calls.push_back({new_id("call_"), std::move(output.text)});
          json::object call = tool_call_json(choice.calls.back());
          call["index"] = choice.calls.size() - 1;
          delta["tool_calls"] = json::array{std::move(call)};
          break;
        }
        case chat::OutputDelta::Kind::arguments:
          if (!stream_) choice.calls.back().arguments += output.text;
          delta["tool_calls"] =
              json::array{json::object{{"index", choice.calls.size() - 1},
                                       {"function", {{"arguments", std::move(output.text)}}}}};
          break;
      }
      if (stream_) emit(static_cast<size_t>(number), std::move(delta));
    }
  }

  std::shared_ptr<const ServedModel> served_;
  const bool stream_, include_usage_, logprobs_;
  const std::string id_ = new_id("chatcmpl-");
  const int64_t created_ = unix_time();
  const std::string chunk_prefix_ =
      json_prefix(envelope("chat.completion.chunk"));  // of each event
  std::vector<Choice> choices_;
  Usage usage_;
  std::string events_;
};

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

}  // namespace

const Schema kChatSchema = kChatTable;

HandlerResult create_chat_completion(RequestContext& context) {
  const json::Node& body = context.body;
  const auto served = context.api.served_model(body);
  const SamplingFields sampling = read_sampling_fields(body);
  const bool logprobs = body.boolean_or("logprobs", false);
  if (body.find("top_logprobs") && !logprobs)
    throw ApiError(400, "top_logprobs: needs logprobs to be true", "top_logprobs");
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
  return run_completion(
      context, served, std::move(requests),
      std::make_unique<ChatWriter>(served, sampling, logprobs, std::move(prepared.parsers)),
      sampling.stream);
}

}  // namespace mxgpt::server
