#include "cli/chat_session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "cli/harmony_chat.h"
#include "cli/template_chat.h"
#include "text/chat/known_chat_templates.h"

namespace mxgpt::cli {

namespace {

std::string select_chat_format(const model::ModelFile& model,
                               const text::ChatTemplate& chat_template,
                               const text::Tokenizer& tokenizer) {
  const auto has_token = [&](std::string_view token) {
    return tokenizer.token_to_id(token).has_value();
  };
  if (const auto name = text::detect_chat_format(chat_template, has_token))
    return std::string(*name);
  const std::string advice = fmt::format(
      "name the format it was trained with by --chat-format ({}), or have text "
      "completed with --raw",
      fmt::join(text::chat_format_names(), ", "));
  if (chat_template.text.empty()) {
    throw Error(model.path().string(), "has no chat template, as base models have none", advice);
  }
  const std::string tokens = text::control_tokens_in(chat_template.text);
  throw Error(model.path().string(),
              fmt::format("its chat template is none of the known ones (it has {})",
                          tokens.empty() ? "no control tokens" : tokens),
              advice);
}

void refuse(bool given, const char* option, const std::string& why) {
  if (given) throw Error(option, why, "leave it out");
}

}  // namespace

std::unique_ptr<ChatSession> make_chat_session(const model::ModelFile& model,
                                               std::shared_ptr<const text::Tokenizer> tokenizer,
                                               ChatOptions options) {
  const text::ChatTemplate chat_template =
      model.gguf() ? text::ChatTemplate::from_gguf(model.gguf()->metadata())
                   : text::ChatTemplate::from_checkpoint(model.path());
  const std::string name = options.format.empty()
                               ? select_chat_format(model, chat_template, *tokenizer)
                               : options.format;
  if (name == text::kHarmonyFormat) {
    refuse(options.no_thinking, "--no-thinking", "models that speak Harmony always reason");
    return std::make_unique<HarmonyChat>(std::move(tokenizer), model.stop_tokens(),
                                         std::move(options));
  }
  text::ChatTemplateSpec format = text::chat_template_spec(name, chat_template, options.date);
  refuse(options.effort.has_value(), "--effort",
         fmt::format("the chat format {} has no levels of reasoning", name));
  refuse(!options.tools.empty(), "--tools",
         fmt::format("tools are not supported in the chat format {}", name));
  refuse(options.no_thinking && format.no_thinking_suffix.empty(), "--no-thinking",
         fmt::format("the chat format {} of this model has no such switch", name));
  return std::make_unique<TemplateChat>(std::move(format), std::move(tokenizer),
                                        model.stop_tokens(), std::move(options));
}

}  // namespace mxgpt::cli
