// Renders conversations for Python tests. text_chat_format MODEL.gguf [NAME] reads one conversation
// per line,
// [[role, content], …], and prints a line of JSON for each: the text and its ids.
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "io/gguf.h"
#include "text/chat/known_chat_templates.h"

namespace mxgpt::text {
namespace {

ChatMessage::Role role_of(std::string_view name) {
  using Role = ChatMessage::Role;
  return name == "system" ? Role::kSystem : name == "user" ? Role::kUser : Role::kAssistant;
}

void render_lines(const std::string& model, std::string name) {
  const io::GgufFile file = io::GgufFile::open(model);
  const ChatTemplate chat_template = ChatTemplate::from_gguf(file.metadata());
  if (name.empty()) name = detect_chat_format(chat_template.text).value();
  const ChatTemplateSpec format = chat_template_spec(name, chat_template, "2026-11-23");
  const auto tokenizer = Tokenizer::load(model);
  for (std::string line; std::getline(std::cin, line);) {
    const json::value value = json::parse(line, "standard input");
    const json::Node conversation(value, "conversation");
    std::vector<ChatMessage> messages;
    for (size_t i = 0; i < conversation.array().size(); ++i) {
      const json::Node message = conversation.at(i);
      messages.push_back({role_of(message.at(0).string()), std::string(message.at(1).string())});
    }
    const auto parts = format.render(messages);
    std::string text;
    for (const TextPart& part : parts) text += part.text;
    const auto ids = tokenizer->encode(parts);
    std::cout << json::serialize(
                     json::object{{"text", text}, {"ids", json::array(ids.begin(), ids.end())}})
              << "\n";
  }
}

}  // namespace
}  // namespace mxgpt::text

int main(int argc, char** argv) {
  mxgpt::text::render_lines(argv[1], argc > 2 ? argv[2] : "");
  return 0;
}
