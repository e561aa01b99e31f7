#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/parser.h"

namespace mxgpt::cli {
namespace {

using namespace harmony;

constexpr int64_t kMaxTokenId = 0x7fffffff;

struct Options {
  std::string tokenizer;
  bool jsonl = false;
  bool text = false;
  bool strict = false;
};

std::shared_ptr<const harmony::HarmonyEncoding> load_encoding(const Options& options) {
  return std::make_shared<harmony::HarmonyEncoding>(text::Tokenizer::load(options.tokenizer));
}

/// Calls `line` with each line of standard input, parsed as JSON, and prints the result.
template <typename F>
int for_each_line(F line) {
  std::string text;
  for (size_t number = 1; std::getline(std::cin, text); ++number) {
    const std::string where = fmt::format("standard input, line {}", number);
    const json::value value = json::parse(text, where);
    try {
      std::cout << line(json::Node(value, "input")) << std::endl;
    } catch (const Error& e) {
      throw Error(where, e.what());
    }
  }
  return kOk;
}

int render(const Options& options) {
  const auto encoding = load_encoding(options);
  return for_each_line([&](const json::Node& node) {
    const harmony::Conversation conversation = harmony::conversation_from_json(node);
    const auto completion = encoding->render_for_completion(conversation);
    if (options.text) return encoding->tokenizer()->decode(completion);
    const auto training = encoding->render_for_training(conversation);
    const auto kept = encoding->render_for_completion(conversation, harmony::AnalysisPolicy::kKeep);
    return json::serialize(json::object{
        {"completion_tokens", json::array(completion.begin(), completion.end())},
        {"training_tokens", json::array(training.begin(), training.end())},
        {"keep_analysis_tokens", json::array(kept.begin(), kept.end())},
    });
  });
}

int parse(const Options& options) {
  const auto encoding = load_encoding(options);
  const auto mode = options.strict ? harmony::HarmonyParser::Mode::kStrict
                                   : harmony::HarmonyParser::Mode::kTolerant;
  return for_each_line([&](const json::Node& node) {
    harmony::HarmonyParser parser(encoding, mode);
    const json::Node tokens = node["tokens"];
    for (size_t i = 0; i < tokens.array().size(); ++i) {
      parser.feed(static_cast<text::TokenId>(tokens.at(i).integer(0, kMaxTokenId)));
    }
    parser.finish();
    json::array messages;
    for (const harmony::ParsedMessage& parsed : parser.messages())
      messages.push_back(harmony::to_json(parsed.message));
    return json::serialize(json::object{{"messages", std::move(messages)}});
  });
}

}  // namespace

std::function<int()> harmony(CommandOptions& command) {
  const auto options = std::make_shared<Options>();
  const auto run = std::make_shared<std::function<int()>>();
  const auto declare = [&](const char* name, const char* summary, int (*action)(const Options&)) {
    CommandOptions sub =
        command.subcommand(name, summary, [=] { *run = [=] { return action(*options); }; });
    declare_tokenizer(sub, options->tokenizer);
    sub.flag("--jsonl", options->jsonl, "Read one JSON value per line from standard input")
        .required();
    return sub;
  };
  declare("render",
          "Render conversations, one {\"messages\": […]} per line, to completion_tokens, "
          "training_tokens and keep_analysis_tokens",
          render)
      .flag("--text", options->text, "Print the completion tokens as text instead");
  declare("parse",
          "Parse the tokens that follow `<|start|>assistant`, one {\"tokens\": […]} per line, into "
          "messages",
          parse)
      .flag("--strict", options->strict, "Reject malformed tokens instead of recovering");
  return [run] { return (*run)(); };
}

}  // namespace mxgpt::cli
