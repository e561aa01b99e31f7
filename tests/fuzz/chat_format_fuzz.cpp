// Renders arbitrary messages with an arbitrary chat template, in every chat format. Input: the
// template, then the messages, separated by zero bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat/known_chat_templates.h"
#include "text/chat/reasoning_parser.h"
#include "text/unicode.h"

namespace {

/// The template markup, which must not depend on the messages.
std::string markup_of(const mxgpt::text::ChatTemplateSpec& format,
                      const std::vector<mxgpt::text::ChatMessage>& messages) {
  std::string markup;
  size_t plain = 0;
  for (const mxgpt::text::TextPart& part : format.render(messages)) {
    plain += part.literal;
    if (!part.literal) markup += part.text;
    if (part.literal && !mxgpt::text::unicode::is_valid(part.text)) std::abort();
  }
  if (plain != messages.size()) std::abort();
  return markup;
}

void parse_reasoning(std::string_view text, bool open) {
  mxgpt::text::ReasoningParser parser(open);
  size_t size = 0;
  const auto add = [&](const mxgpt::text::ReasoningParser::Delta& delta) {
    size += delta.reasoning.size() + delta.content.size();
  };
  for (size_t at = 0; at < text.size(); at += 3) add(parser.push(text.substr(at, 3)));
  add(parser.finish());
  if (size > text.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const size_t end = std::min(input.find('\0'), input.size());
    const std::string_view part = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    return std::string(part);
  };
  using Role = mxgpt::text::ChatMessage::Role;
  const mxgpt::text::ChatTemplate chat_template{next(), "<s>"};
  const std::vector<mxgpt::text::ChatMessage> messages = {{Role::kSystem, next()},
                                                          {Role::kUser, next()},
                                                          {Role::kAssistant, next()},
                                                          {Role::kUser, next()}};
  auto empty_messages = messages;
  for (mxgpt::text::ChatMessage& message : empty_messages) message.content.clear();
  mxgpt::text::detect_chat_format(chat_template.text);
  mxgpt::text::control_tokens_in(chat_template.text);
  for (const std::string& name : mxgpt::text::chat_format_names()) {
    if (name == mxgpt::text::kHarmonyFormat) continue;
    const auto format = mxgpt::text::chat_template_spec(name, chat_template, "2026-11-23");
    if (markup_of(format, messages) != markup_of(format, empty_messages)) std::abort();
  }
  parse_reasoning(messages[2].content, false);
  parse_reasoning(messages[2].content, true);
  return 0;
}
