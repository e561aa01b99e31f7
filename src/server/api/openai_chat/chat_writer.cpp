#include "server/api/openai_chat/chat_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/version.h"
#include "server/api/logprobs.h"

namespace mxgpt::server {

namespace {

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
    std::string content, reasoning;  // empty in a stream
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
    json::object choice{{"index", number}, {"delta", std::move(delta)}};
    const bool has_logprobs =
        !choices_[number].content_logprobs.empty() || !choices_[number].reasoning_logprobs.empty();
    choice["logprobs"] = has_logprobs ? drain_logprobs(choices_[number]) : nullptr;
    choice["finish_reason"] = finish ? json::value(finish) : json::value(nullptr);
    append_event(events_,
                 fmt::format(R"({},"choices":[{}]{}}})", chunk_prefix_, json::serialize(choice),
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
      json_prefix(envelope("chat.completion.chunk"));  // starts each event
  std::vector<Choice> choices_;
  Usage usage_;
  std::string events_;
};

}  // namespace

std::unique_ptr<ResponseWriter> make_chat_writer(
    std::shared_ptr<const ServedModel> served, const SamplingFields& sampling, bool logprobs,
    std::vector<std::unique_ptr<chat::OutputParser>> parsers) {
  return std::make_unique<ChatWriter>(std::move(served), sampling, logprobs, std::move(parsers));
}

}  // namespace mxgpt::server
