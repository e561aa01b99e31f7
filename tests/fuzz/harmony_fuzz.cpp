// Runs the Harmony parser in both modes on arbitrary tokens, and the renderer on arbitrary
// conversations. An input that begins with '{' is a conversation as JSON. Otherwise each byte is a
// token of the small tokenizer; 0x10 to 0x1F are control tokens and ids beyond its vocabulary.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../support/small_tokenizer.h"
#include "base/check.h"
#include "base/error.h"
#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/parser.h"

namespace {

using namespace mxgpt;
using namespace mxgpt::harmony;

const std::shared_ptr<const HarmonyEncoding>& encoding() {
  static const auto small = std::make_shared<const HarmonyEncoding>(small_tokenizer());
  return small;
}

std::vector<ParsedMessage> parse(const std::vector<text::TokenId>& tokens,
                                 HarmonyParser::Mode mode) {
  HarmonyParser parser(encoding(), mode);
  std::vector<std::string> texts;
  const auto note = [&](const std::string& delta) {
    texts.resize(parser.messages().size());
    if (!delta.empty()) texts.back() += delta;
  };
  for (const text::TokenId token : tokens) note(parser.feed(token));
  note(parser.finish());
  for (size_t i = 0; i < texts.size(); ++i) {
    MXGPT_CHECK(parser.messages()[i].message.text() == texts[i], "deltas of message {}", i);
  }
  return parser.messages();
}

void fuzz_parser(std::string_view bytes) {
  std::vector<text::TokenId> tokens;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    tokens.push_back(byte >= 0x10 && byte < 0x20 ? 256 + (byte - 0x10) : byte);
  }
  Conversation conversation;
  for (const auto& [message, end] : parse(tokens, HarmonyParser::Mode::kTolerant)) {
    MXGPT_CHECK(end != MessageEnd::kOpen, "a message is open after the end");
    conversation.messages.push_back(message);
  }
  encoding()->render_for_completion(conversation);
  try {
    parse(tokens, HarmonyParser::Mode::kStrict);
  } catch (const mxgpt::Error&) {
    // Expected for most inputs.
  }
}

void fuzz_renderer(std::string_view text) {
  Conversation conversation;
  std::vector<text::TokenId> tokens;
  try {
    const json::value value = json::parse(text, "input");
    conversation = conversation_from_json(json::Node(value, "input"));
    tokens = encoding()->render_for_training(conversation, AnalysisPolicy::kKeep);
  } catch (const mxgpt::Error&) {
    return;
  }
  const auto parsed = parse(tokens, HarmonyParser::Mode::kTolerant);
  MXGPT_CHECK(parsed.size() == conversation.messages.size(), "{} messages became {}",
              conversation.messages.size(), parsed.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bytes.starts_with('{') ? fuzz_renderer(bytes) : fuzz_parser(bytes);
  return 0;
}
