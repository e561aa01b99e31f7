#include "chat/chat_model.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <utility>

namespace mxgpt::chat {

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return fmt::format("{:%Y-%m-%d}", local);
}

ChatModel::ChatModel(Options options)
    : options_(std::move(options)), stop_tokens_(options_.stop_tokens) {
  const text::Tokenizer& tokenizer = *options_.tokenizer;
  const auto has_token = [&](std::string_view token) {
    return tokenizer.token_to_id(token).has_value();
  };
  byte_level_ = has_token("Ġ");  // spells a space in byte-level vocabularies, nothing in others
  std::optional<std::string> format;
  if (!options_.format.empty()) {
    format = options_.format;
  } else if (const auto detected = text::detect_chat_format(options_.chat_template, has_token)) {
    format = std::string(*detected);
  }
  if (format == text::kHarmonyFormat) {
    harmony_ = std::make_shared<harmony::HarmonyEncoding>(options_.tokenizer);
    for (const text::TokenId token : harmony_->stop_tokens()) stop_tokens_.push_back(token);
  } else if (format) {
    template_ = text::chat_template_spec(*format, options_.chat_template, options_.date);
    stop_tokens_.push_back(template_->end_of_turn_id(tokenizer));
  }
}

std::optional<std::string> ChatModel::chat_format_fault() const {
  if (harmony_ || template_) return std::nullopt;
  if (options_.chat_template.text.empty()) return "has no chat template, as base models have none";
  const std::string tokens = text::control_tokens_in(options_.chat_template.text);
  return fmt::format("its chat template is not a known one (it has {})",
                     tokens.empty() ? "no control tokens" : tokens);
}

GrammarCompiler& ChatModel::grammars() const {
  std::call_once(grammars_once_, [this] {
    grammars_ =
        std::make_unique<GrammarCompiler>(options_.tokenizer, byte_level_, options_.vocabulary);
  });
  return *grammars_;
}

}  // namespace mxgpt::chat
