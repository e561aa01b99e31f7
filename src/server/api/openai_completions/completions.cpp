// /v1/completions: continues a text, without a chat format.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/version.h"
#include "chat/output_parser.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"
#include "server/api/logprobs.h"
#include "server/api/openai_schema.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server {

namespace {

/// Per request; each prompt becomes one engine request.
constexpr size_t kMaxPrompts = 128;

constexpr auto kSchema = with_sampling({
    kNField,
    Field{"prompt", kString | kArray,
          "a string, token ids, or a list of either; control tokens spelled out in a string are "
          "encoded as control tokens"}
        .max_size(1'000'000)
        .items(kString | kInteger | kArray)
        .required(),
    openai::kModel,
    Field{"max_tokens", kInteger, "default 16; 0 with echo scores the prompt", 0, 1e9},
    Field{"logprobs", kInteger, "return log probabilities, with this many most likely tokens", 0,
          engine::kMaxTopLogprobs},
    Field{"echo", kBoolean, "the response starts with the prompt"},
    Field{"skip_special_tokens", kBoolean, "omit control tokens from the text; default true"},
    Field{"add_special_tokens", kBoolean,
          "start the prompt with BOS if the model has it; default true"},
    Field{"ignore_eos", kBoolean, "continue after an end token"},
});

class CompletionWriter : public ResponseWriter {
 public:
  struct Prompt {
    std::vector<text::TokenId> tokens;
    std::string text;
  };

  CompletionWriter(std::shared_ptr<const ServedModel> served, const SamplingFields& sampling,
                   bool logprobs, bool echo, std::vector<Prompt> prompts,
                   std::vector<std::unique_ptr<chat::OutputParser>> parsers)
      : served_(std::move(served)),
        stream_(sampling.stream),
        include_usage_(sampling.include_usage),
        logprobs_(logprobs),
        echo_(echo),
        choices_per_prompt_(sampling.choices),
        prompts_(std::move(prompts)) {
    for (auto& parser : parsers) choices_.push_back({std::move(parser)});
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Prompt& prompt = prompts_[i / choices_per_prompt_];
      if (i % choices_per_prompt_ == 0) usage_.prompt += static_cast<int64_t>(prompt.tokens.size());
      if (!echo_) continue;
      if (logprobs_) choices_[i].logprobs.add(*served_, prompt.tokens.front(), nullptr, {});
      if (!logprobs_ || !stream_) add_text(i, prompt.text);
    }
  }

  void on_prompt_token(int request, const engine::PromptToken& token) override {
    for (size_t i = 0; i < choices_per_prompt_; ++i) {
      Choice& choice = choices_[request * choices_per_prompt_ + i];
      choice.logprobs.add(*served_, token.token, &token.logprob, token.top);
    }
    const Prompt& prompt = prompts_[request];
    // A stream sends the text together with its scores.
    if (!stream_ || token.position + 1 < static_cast<int64_t>(prompt.tokens.size())) return;
    for (size_t i = 0; i < choices_per_prompt_; ++i)
      add_text(request * choices_per_prompt_ + i, prompt.text);
  }

  bool on_token(int number, const engine::ChoiceToken& token) override {
    Choice& choice = choices_[number];
    std::vector<chat::OutputDelta> deltas;
    const bool more = choice.parser->push(token.token, deltas);
    ++usage_.completion;
    if (logprobs_ && choice.parser->current_kind())
      choice.logprobs.add(*served_, token.token, &token.logprob, token.top);
    for (const chat::OutputDelta& delta : deltas) add_text(number, delta.text);
    return more;
  }

  void on_end(int number, const engine::ChoiceEnd& end, bool length) override {
    Choice& choice = choices_[number];
    std::vector<chat::OutputDelta> deltas;
    choice.parser->finish(deltas);
    for (const chat::OutputDelta& delta : deltas) add_text(number, delta.text);
    usage_.cached += number % choices_per_prompt_ == 0 ? end.cached_tokens : 0;
    choice.finish_reason = length ? "length" : "stop";
    if (stream_) emit(number, "", choice.finish_reason);
  }

  void drain_events(std::string& out) override { out += std::exchange(events_, {}); }

  void finish_events(std::string& out) override {
    if (include_usage_) {
      json::object chunk = envelope();
      chunk["choices"] = json::array();
      chunk["usage"] = usage_.json();
      append_event(out, json::serialize(chunk));
    }
    append_event(out, kDone);
  }

  std::string body() override {
    json::array list;
    for (size_t i = 0; i < choices_.size(); ++i)
      list.push_back(choice_json(i, choices_[i].text, choices_[i].finish_reason));
    json::object out = envelope();
    out["choices"] = std::move(list);
    out["usage"] = usage_.json();
    return json::serialize(out);
  }

 private:
  struct Choice {
    std::unique_ptr<chat::OutputParser> parser;
    std::string text;
    CompletionLogprobs logprobs;
    const char* finish_reason = nullptr;
  };

  json::object envelope() const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", served_->name()},
            {"system_fingerprint", fmt::format("mxgpt-{}", version())}};
  }

  json::object choice_json(size_t number, const std::string& text, const char* finish) {
    Choice& choice = choices_[number];
    return {
        {"index", number},
        {"text", text},
        {"logprobs", logprobs_ && !choice.logprobs.empty() ? json::value(choice.logprobs.drain())
                                                           : json::value(nullptr)},
        {"finish_reason", finish ? json::value(finish) : json::value(nullptr)}};
  }

  void emit(size_t number, const std::string& text, const char* finish = nullptr) {
    append_event(events_, fmt::format(R"({},"choices":[{}]}})", chunk_prefix_,
                                      json::serialize(choice_json(number, text, finish))));
  }

  void add_text(size_t number, const std::string& text) {
    if (stream_) {
      emit(number, text);
    } else {
      choices_[number].text += text;
    }
  }

  std::shared_ptr<const ServedModel> served_;
  const bool stream_, include_usage_, logprobs_, echo_;
  const size_t choices_per_prompt_;
  const std::vector<Prompt> prompts_;
  const std::string id_ = new_id("cmpl-");
  const int64_t created_ = unix_time();
  const std::string chunk_prefix_ = json_prefix(envelope());  // starts each event
  std::vector<Choice> choices_;
  Usage usage_;
  std::string events_;
};

using Prompt = CompletionWriter::Prompt;

Prompt prompt_of_ids(const ServedModel& served, const json::Node& ids) {
  Prompt prompt;
  for (size_t i = 0; i < ids.array().size(); ++i) {
    prompt.tokens.push_back(
        static_cast<text::TokenId>(ids.at(i).integer(0, served.tokenizer()->vocab_size() - 1)));
  }
  prompt.text = served.tokenizer()->decode(prompt.tokens);
  return prompt;
}

std::vector<Prompt> read_prompts(const ServedModel& served, const json::Node& body) {
  const json::Node node(body["prompt"].raw(), "prompt");
  const bool add = body.boolean_or("add_special_tokens", true);
  const auto encode = [&](std::string_view text) {
    return Prompt{served.tokenizer()->encode(text, {.add_special_tokens = add}), std::string(text)};
  };
  std::vector<Prompt> prompts;
  if (node.raw().is_string()) {
    prompts.push_back(encode(node.string()));
  } else if (!node.array().empty() && node.array().front().is_number()) {
    prompts.push_back(prompt_of_ids(served, node));
  } else {
    if (node.array().size() > kMaxPrompts)
      node.fail(fmt::format("has more than {} prompts", kMaxPrompts));
    for (size_t i = 0; i < node.array().size(); ++i) {
      const json::Node item = node.at(i);
      prompts.push_back(item.raw().is_string() ? encode(item.string())
                                               : prompt_of_ids(served, item));
    }
  }
  if (prompts.empty()) node.fail("is empty");
  for (const Prompt& prompt : prompts)
    if (prompt.tokens.empty()) node.fail("is empty");
  return prompts;
}

HandlerResult create_completion(const RequestContext& context) {
  const json::Node& body = context.body;
  const auto served = context.api.served_model(body);
  const SamplingFields sampling = read_sampling_fields(body);
  const auto logprobs = body.find("logprobs");
  const bool echo = body.boolean_or("echo", false);
  const int64_t max_tokens = body.integer_or("max_tokens", 16, 0, 1'000'000'000);
  if (max_tokens == 0 && !echo)
    throw ApiError(400, "max_tokens: 0 requires echo to be true", "max_tokens", "invalid_value");
  const std::vector<Prompt> prompts = read_prompts(*served, body);
  if (prompts.size() * static_cast<size_t>(sampling.choices) > kMaxPrompts)
    throw ApiError(
        400, fmt::format("n: the request has more than {} choices in total", kMaxPrompts), "n");

  std::vector<engine::Request> requests;
  std::vector<std::unique_ptr<chat::OutputParser>> parsers;
  for (const Prompt& prompt : prompts) {
    engine::Request request{.prompt = prompt.tokens,
                            .max_tokens = max_tokens,
                            .sampling = sampling.params,
                            .choices = sampling.choices,
                            .priority = sampling.priority,
                            .deadline = context.api.request_deadline()};
    if (!body.boolean_or("ignore_eos", false)) request.stop_tokens = served->model().stop_tokens();
    if (logprobs) {
      request.top_logprobs = static_cast<int>(logprobs->integer(0, engine::kMaxTopLogprobs));
      request.prompt_logprobs = echo;
    }
    for (int i = 0; i < sampling.choices; ++i) {
      parsers.push_back(chat::make_plain_text_parser(
          served->tokenizer(), {.stops = sampling.stop_strings,
                                .stop_tokens = request.stop_tokens,
                                .skip_special = body.boolean_or("skip_special_tokens", true)}));
    }
    requests.push_back(std::move(request));
  }
  auto writer = std::make_unique<CompletionWriter>(served, sampling, logprobs.has_value(), echo,
                                                   prompts, std::move(parsers));
  return run_completion(context, served, std::move(requests), std::move(writer), sampling.stream);
}

constexpr Route kRoutes[] = {
    {"POST", "/v1/completions", "Complete a text", create_completion, kSchema}};

}  // namespace

MXGPT_ROUTES(completions) = kRoutes;

}  // namespace mxgpt::server
