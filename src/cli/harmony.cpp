#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
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

// Runs `line` on each line of standard input, parsed as JSON, and prints what it returns.
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

std::function<int()> harmony(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  const auto run = std::make_shared<std::function<int()>>();
  command.require_subcommand(1);
  const auto declare = [&](const char* name, const char* summary, int (*action)(const Options&)) {
    CLI::App* sub = command.add_subcommand(name, summary);
    sub->add_option("--tokenizer", options->tokenizer,
                    "A tokenizer.json, checkpoint directory or GGUF file")
        ->required();
    sub->add_flag("--jsonl", options->jsonl, "Read one JSON value a line from standard input")
        ->required();
    sub->callback([=] { *run = [=] { return action(*options); }; });
    return sub;
  };
  declare(
      "render",
      "Turn conversations, {\"messages\": […]} a line, into completion_tokens, training_tokens and "
      "keep_analysis_tokens",
      render)
      ->add_flag("--text", options->text, "Print the text of the completion tokens instead");
  declare("parse",
          "Turn tokens that follow `<|start|>assistant`, {\"tokens\": […]} a line, into messages",
          parse)
      ->add_flag("--strict", options->strict,
                 "Refuse malformed tokens instead of making the best of them");
  return [run] { return (*run)(); };
}

}  // namespace mxgpt::cli
