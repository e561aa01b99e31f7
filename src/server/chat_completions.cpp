// /v1/chat/completions.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/version.h"
#include "server/api.h"
#include "server/chat_messages.h"
#include "server/dialog.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/sampling.h"

namespace mxgpt::server {

namespace {

constexpr Field kFunctionTable[] = {
    Field{"name", kString, "letters, digits, _ and -"}.needed(),
    {"description", kString, "what it does"},
    {"parameters", kObject, "JSON Schema of its arguments"},
    Field{"strict", kBoolean, "arguments always hold to the schema here"}.unused(),
};
constexpr Fields kFunctionFields = kFunctionTable;

constexpr Field kToolTable[] = {
    Field{"type", kString, ""}.one_of("function").needed(),
    Field{"function", kObject, "the function"}.of(&kFunctionFields).needed(),
};
constexpr Fields kToolFields = kToolTable;

constexpr Field kNamedTable[] = {Field{"name", kString, "the function"}.needed()};
constexpr Fields kNamedFields = kNamedTable;

constexpr Field kToolChoiceTable[] = {
    Field{"type", kString, ""}.one_of("function").needed(),
    Field{"function", kObject, "the one to call"}.of(&kNamedFields).needed(),
};
constexpr Fields kToolChoiceFields = kToolChoiceTable;

const auto kChatTable = with_sampling({
    kChoicesField,
    Field{"messages", kArray, "the conversation"}
        .at_most(10000)
        .each(kObject)
        .of(&kMessageFields)
        .needed(),
    Field{"model", kString, "the model's name; default: the one there is"},
    Field{"max_completion_tokens", kInteger,
          "reasoning included; default: until the context is full", 1, 1e9},
    Field{"max_tokens", kInteger, "older name of max_completion_tokens", 1, 1e9},
    Field{"logprobs", kBoolean, "log-probabilities of each token"},
    Field{"top_logprobs", kInteger, "and of so many of the likeliest at its place", 0,
          kMaxTopLogprobs},
    Field{"reasoning_effort", kString, "how much gpt-oss reasons"}.one_of("low|medium|high"),
    Field{"response_format", kObject, "what the answer must be"}.of(&kResponseFormatFields),
    Field{"tools", kArray, "functions that the model may call"}.at_most(128).each(kObject).of(
        &kToolFields),
    Field{"tool_choice", kString | kObject, "whether and what it calls"}
        .one_of("auto|none|required")
        .of(&kToolChoiceFields),
    Field{"parallel_tool_calls", kBoolean, "a permission: gpt-oss makes one call at a time"}
        .unused(),
    Field{"metadata", kObject, "for the client's own use"}.unused(),
    Field{"store", kBoolean, "chats are not stored"}.unused(),
    Field{"service_tier", kString, "of OpenAI's"}.unused(),
    Field{"safety_identifier", kString, "of OpenAI's"}.unused(),
    Field{"prompt_cache_key", kString, "prompts are cached by themselves"}.unused(),
});

class ChatWriter : public AnswerWriter {
 public:
  ChatWriter(std::shared_ptr<const Served> served, const Sampling& sampling, bool logprobs,
             std::vector<std::unique_ptr<ChoiceReader>> readers)
      : served_(std::move(served)),
        stream_(sampling.stream),
        include_usage_(sampling.include_usage),
        logprobs_(logprobs) {
    for (auto& reader : readers) {
      choices_.push_back({std::move(reader)});
      if (stream_) emit(choices_.size() - 1, {{"role", "assistant"}, {"content", ""}});
    }
  }

  bool token(int number, const ChoiceToken& token) override {
    Choice& choice = choices_[number];
    std::vector<Piece> pieces;
    const bool more = choice.reader->push(token.token, pieces);
    ++usage_.answer;
    const auto part = choice.reader->part();
    if (part == Piece::Kind::reasoning) ++usage_.reasoning;
    if (logprobs_ && part && part != Piece::Kind::arguments) {
      (part == Piece::Kind::reasoning ? choice.reasoning_logprobs : choice.content_logprobs)
          .push_back(chat_logprob(*served_, token));
    }
    show(number, pieces);
    return more;
  }

  void end(int number, const ChoiceEnd& end, bool length) override {
    Choice& choice = choices_[number];
    std::vector<Piece> pieces;
    choice.reader->finish(pieces);
    show(number, pieces);
    usage_.prompt = end.prompt_tokens;
    usage_.cached = std::max(usage_.cached, end.cached_tokens);
    choice.finish = length ? "length" : choice.calls.empty() ? "stop" : "tool_calls";
    if (stream_) emit(static_cast<size_t>(number), {}, choice.finish);
  }

  void take_events(std::string& out) override { out += std::exchange(events_, {}); }

  void finish_events(std::string& out) override {
    if (include_usage_) {
      json::object chunk = envelope("chat.completion.chunk");
      chunk["choices"] = json::array();
      chunk["usage"] = usage_.json();
      append_event(out, json::serialize(chunk));
    }
    append_event(out, kDone);
  }

  std::string whole() override {
    json::array list;
    for (size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      json::object message{{"role", "assistant"}, {"content", nullptr}, {"refusal", nullptr}};
      if (!choice.content.empty() || choice.calls.empty()) message["content"] = choice.content;
      if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
      if (!choice.calls.empty()) {
        json::array& calls = message["tool_calls"].emplace_array();
        for (const ToolCall& call : choice.calls) calls.push_back(call_json(call));
      }
      list.push_back({{"index", i},
                      {"message", std::move(message)},
                      {"logprobs", take_logprobs(choice)},
                      {"finish_reason", choice.finish}});
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
    std::unique_ptr<ChoiceReader> reader;
    std::string content, reasoning;  // of a stream, empty
    std::vector<ToolCall> calls;
    json::array content_logprobs, reasoning_logprobs;
    const char* finish = nullptr;
  };

  static json::object call_json(const ToolCall& call) {
    return {{"id", call.id},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }

  json::value take_logprobs(Choice& choice) {
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
    one["logprobs"] = has_logprobs ? take_logprobs(choices_[number]) : nullptr;
    one["finish_reason"] = finish ? json::value(finish) : json::value(nullptr);
    append_event(events_, fmt::format(R"({},"choices":[{}]{}}})", head_, json::serialize(one),
                                      include_usage_ ? R"(,"usage":null)" : ""));
  }

  void show(int number, std::vector<Piece>& pieces) {
    Choice& choice = choices_[number];
    for (Piece& piece : pieces) {
      json::object delta;
      switch (piece.kind) {
        case Piece::Kind::reasoning:
          if (!stream_) choice.reasoning += piece.text;
          delta["reasoning_content"] = std::move(piece.text);
          break;
        case Piece::Kind::content:
          if (!stream_) choice.content += piece.text;
          delta["content"] = std::move(piece.text);
          break;
        case Piece::Kind::call: {
          choice.calls.push_back({new_id("call_"), std::move(piece.text)});
          json::object call = call_json(choice.calls.back());
          call["index"] = choice.calls.size() - 1;
          delta["tool_calls"] = json::array{std::move(call)};
          break;
        }
        case Piece::Kind::arguments:
          if (!stream_) choice.calls.back().arguments += piece.text;
          delta["tool_calls"] =
              json::array{json::object{{"index", choice.calls.size() - 1},
                                       {"function", {{"arguments", std::move(piece.text)}}}}};
          break;
      }
      if (stream_) emit(static_cast<size_t>(number), std::move(delta));
    }
  }

  std::shared_ptr<const Served> served_;
  const bool stream_, include_usage_, logprobs_;
  const std::string id_ = new_id("chatcmpl-");
  const int64_t created_ = unix_time();
  const std::string head_ = open_json(envelope("chat.completion.chunk"));  // of each event
  std::vector<Choice> choices_;
  Usage usage_;
  std::string events_;
};

DialogTools read_tools(const json::Node& body) {
  DialogTools tools;
  if (const auto list = body.find("tools")) tools.describe({list->raw(), "tools"});
  const auto choice = body.find("tool_choice");
  if (!choice) return tools;
  if (!choice->raw().is_string()) {
    tools.demand({std::string((*choice)["function"]["name"].string())}, "tool_choice");
  } else if (choice->string() == "none") {
    tools.forbid();
  } else if (choice->string() == "required") {
    tools.demand_any("tool_choice");
  }
  return tools;
}

}  // namespace

const Fields kChatFields = kChatTable;

Answer chat_completions(Call& call) {
  const json::Node& body = call.body;
  const auto served = call.api.served(body);
  const Sampling sampling = read_sampling(body);
  const bool logprobs = body.boolean_or("logprobs", false);
  if (body.find("top_logprobs") && !logprobs)
    throw ApiError(400, "top_logprobs: needs logprobs to be true", "top_logprobs");
  Request request{.sampling = sampling.params,
                  .choices = sampling.choices,
                  .priority = sampling.priority,
                  .deadline = call.api.deadline()};
  for (const char* field : {"max_tokens", "max_completion_tokens"}) {
    if (const auto most = body.find(field)) request.max_tokens = most->integer(1, 1'000'000'000);
  }
  if (logprobs)
    request.top_logprobs = static_cast<int>(body.integer_or("top_logprobs", 0, 0, kMaxTopLogprobs));
  Dialog dialog{.field = "messages",
                .items = read_messages(body["messages"]),
                .tools = read_tools(body),
                .format = read_response_format(*served, body),
                .stops = sampling.stops};
  if (const auto effort = body.find("reasoning_effort"))
    dialog.effort = harmony::effort_from_name(effort->string());
  auto readers = begin_dialog(*served, dialog, request);
  std::vector<Request> requests;
  requests.push_back(std::move(request));
  return generate(served, call.api.metrics(), std::move(requests),
                  std::make_unique<ChatWriter>(served, sampling, logprobs, std::move(readers)),
                  sampling.stream);
}

}  // namespace mxgpt::server
