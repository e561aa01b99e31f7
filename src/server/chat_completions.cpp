// /v1/chat/completions.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/printable.h"
#include "base/version.h"
#include "server/api.h"
#include "server/chat_messages.h"
#include "server/generation.h"
#include "server/harmony_guard.h"
#include "server/logprobs.h"
#include "server/reader.h"
#include "server/response_format.h"
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
    if (!include_usage_) return;
    json::object chunk = envelope("chat.completion.chunk");
    chunk["choices"] = json::array();
    chunk["usage"] = usage_.json();
    append_event(out, json::serialize(chunk));
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
    json::object chunk = envelope("chat.completion.chunk");
    json::object one{{"index", number}, {"delta", std::move(delta)}};
    const bool has_logprobs =
        !choices_[number].content_logprobs.empty() || !choices_[number].reasoning_logprobs.empty();
    one["logprobs"] = has_logprobs ? take_logprobs(choices_[number]) : nullptr;
    one["finish_reason"] = finish ? json::value(finish) : json::value(nullptr);
    chunk["choices"] = json::array{std::move(one)};
    if (include_usage_) chunk["usage"] = nullptr;
    append_event(events_, json::serialize(chunk));
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
  std::vector<Choice> choices_;
  Usage usage_;
  std::string events_;
};

/// What may be called, and whether something must be.
struct ToolChoice {
  std::vector<harmony::ToolDescription> described;  ///< to the model
  std::vector<std::string> callable;
  bool must_call = false;
};

ToolChoice read_tools(const json::Node& body) {
  ToolChoice out;
  if (const auto tools = body.find("tools")) {
    out.described = harmony::functions_from_json({tools->raw(), "tools"});
    for (const auto& tool : out.described) out.callable.push_back(tool.name);
  }
  const auto choice = body.find("tool_choice");
  if (!choice) return out;
  if (choice->raw().is_string()) {
    if (choice->string() == "none") {
      out.described.clear();
      out.callable.clear();
    }
    out.must_call = choice->string() == "required";
  } else {
    const std::string name((*choice)["function"]["name"].string());
    if (std::find(out.callable.begin(), out.callable.end(), name) == out.callable.end()) {
      throw ApiError(400, fmt::format("tool_choice: there is no tool '{}'", printable(name)),
                     "tool_choice", "invalid_value");
    }
    out.callable = {name};
    out.must_call = true;
  }
  if (out.must_call && out.callable.empty())
    throw ApiError(400, "tool_choice: demands a call, but there are no tools", "tool_choice");
  return out;
}

/// Fills in the prompt, the stop tokens and the constraints; a reader for each choice comes back.
std::vector<std::unique_ptr<ChoiceReader>> begin_harmony(const Served& served,
                                                         const json::Node& body,
                                                         const Sampling& sampling,
                                                         Request& request) {
  const ToolChoice tools = read_tools(body);
  const ResponseFormat format = read_response_format(served, body);
  harmony::ChatSetup setup{.date = today(), .functions = tools.described};
  if (const auto effort = body.find("reasoning_effort"))
    setup.effort = *harmony::effort_from_name(effort->string());
  const harmony::Conversation chat =
      harmony_messages(body["messages"], std::move(setup), format.instructions);
  request.prompt =
      served.harmony()->render_for_completion(chat, harmony::Analysis::kDropFinishedTurns);

  HarmonyRules::Options options{.must_call = tools.must_call, .final_text = format.grammar};
  for (const auto& tool : tools.described) {
    if (std::find(tools.callable.begin(), tools.callable.end(), tool.name) == tools.callable.end())
      continue;
    options.functions.push_back({tool.name, arguments_grammar(served, tool)});
  }
  const auto rules = std::make_shared<const HarmonyRules>(
      served.harmony(), served.engine().vocabulary(), std::move(options));
  std::vector<std::unique_ptr<ChoiceReader>> readers;
  for (int i = 0; i < sampling.choices; ++i) {
    request.constraints.push_back(guard_harmony(rules));
    readers.push_back(read_harmony(served.harmony(), sampling.stops));
  }
  return readers;
}

std::vector<std::unique_ptr<ChoiceReader>> begin_turns(const Served& served, const json::Node& body,
                                                       const Sampling& sampling, Request& request) {
  const TurnFormat& format = *served.turns();
  for (const char* field : {"tools", "tool_choice", "reasoning_effort"}) {
    if (body.find(field)) {
      throw ApiError(400,
                     fmt::format("{}: the chat format {} has no such thing", field, format.name),
                     field, "unsupported_parameter");
    }
  }
  const ResponseFormat answer = read_response_format(served, body);
  request.prompt = served.tokenizer()->encode(format.render(turn_messages(body["messages"])));
  std::vector<std::unique_ptr<ChoiceReader>> readers;
  for (int i = 0; i < sampling.choices; ++i) {
    if (answer.grammar) {
      const auto end = format.thinks ? served.tokenizer()->token_to_id("</think>") : std::nullopt;
      request.constraints.push_back(guard_plain(answer.grammar, served.stop_tokens(), end));
    }
    readers.push_back(
        read_plain(served.tokenizer(), {.stops = sampling.stops,
                                        .stop_tokens = served.stop_tokens(),
                                        .thinks = format.thinks,
                                        .opened_thinking = format.prompt_opens_thinking}));
  }
  return readers;
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
                  .stop_tokens = served->stop_tokens(),
                  .priority = sampling.priority,
                  .deadline = call.api.deadline()};
  for (const char* field : {"max_tokens", "max_completion_tokens"}) {
    if (const auto most = body.find(field)) request.max_tokens = most->integer(1, 1'000'000'000);
  }
  if (logprobs)
    request.top_logprobs = static_cast<int>(body.integer_or("top_logprobs", 0, 0, kMaxTopLogprobs));
  if (!served->harmony() && !served->turns()) {
    throw ApiError(400, "this model has no chat format; use /v1/completions", "model",
                   "unsupported_parameter");
  }
  auto readers = served->harmony() ? begin_harmony(*served, body, sampling, request)
                                   : begin_turns(*served, body, sampling, request);
  std::vector<Request> requests;
  requests.push_back(std::move(request));
  return generate(served, call.api.metrics(), std::move(requests),
                  std::make_unique<ChatWriter>(served, sampling, logprobs, std::move(readers)),
                  sampling.stream);
}

}  // namespace mxgpt::server
