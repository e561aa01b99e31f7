#include "apps/chat.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "apps/harmony_chat.h"
#include "apps/turn_chat.h"
#include "base/error.h"
#include "text/chat_format.h"

namespace mxgpt::apps {

namespace {

std::string choose_format(const Model& model, const ChatTemplate& chat_template,
                          const Tokenizer& tokenizer) {
  const auto has_token = [&](std::string_view token) {
    return tokenizer.token_to_id(token).has_value();
  };
  if (const auto name = chat_format_of(chat_template, has_token)) return std::string(*name);
  const std::string advice = fmt::format(
      "name the format it was trained with by --chat-format ({}), or have text "
      "completed with --raw",
      fmt::join(chat_format_names(), ", "));
  if (chat_template.text.empty()) {
    throw Error(model.path().string(), "has no chat template, as base models have none", advice);
  }
  const std::string tokens = control_tokens_in(chat_template.text);
  throw Error(model.path().string(),
              fmt::format("its chat template is none of the known ones (it has {})",
                          tokens.empty() ? "no control tokens" : tokens),
              advice);
}

void refuse(bool given, const char* option, const std::string& why) {
  if (given) throw Error(option, why, "leave it out");
}

}  // namespace

std::unique_ptr<Chat> make_chat(const Model& model, std::shared_ptr<const Tokenizer> tokenizer,
                                ChatOptions options) {
  const ChatTemplate chat_template = model.gguf() ? ChatTemplate::of_gguf(model.gguf()->metadata())
                                                  : ChatTemplate::of_checkpoint(model.path());
  const std::string name =
      options.format.empty() ? choose_format(model, chat_template, *tokenizer) : options.format;
  if (name == kHarmonyFormat) {
    refuse(options.no_thinking, "--no-thinking", "models that speak Harmony always reason");
    return std::make_unique<HarmonyChat>(std::move(tokenizer), model.stop_tokens(),
                                         std::move(options));
  }
  TurnFormat format = turn_format(name, chat_template, options.date);
  refuse(options.effort.has_value(), "--effort",
         fmt::format("the chat format {} has no levels of reasoning", name));
  refuse(!options.functions.empty(), "--tools",
         fmt::format("tools are not supported in the chat format {}", name));
  refuse(options.no_thinking && format.no_thinking.empty(), "--no-thinking",
         fmt::format("the chat format {} of this model has no such switch", name));
  return std::make_unique<TurnChat>(std::move(format), std::move(tokenizer), model.stop_tokens(),
                                    std::move(options));
}

}  // namespace mxgpt::apps
