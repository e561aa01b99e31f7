// Runs the Harmony parser in both modes on arbitrary tokens, and the renderer on arbitrary
// conversations. An input that begins with '{' is a conversation as JSON. Otherwise each byte is a
// token of the small tokenizer; 0x10 to 0x1F are control tokens and ids beyond its vocabulary.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../text/harmony/small_tokenizer.h"
#include "base/check.h"
#include "base/error.h"
#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/parser.h"

namespace {

using namespace mxgpt;
using namespace mxgpt::harmony;

const std::shared_ptr<const mxgpt::harmony::HarmonyEncoding>& encoding() {
  static const auto small =
      std::make_shared<const mxgpt::harmony::HarmonyEncoding>(mxgpt::harmony::small_tokenizer());
  return small;
}

std::vector<mxgpt::harmony::ParsedMessage> parse(const std::vector<mxgpt::text::TokenId>& tokens,
                                                 mxgpt::harmony::HarmonyParser::Mode mode) {
  mxgpt::harmony::HarmonyParser parser(encoding(), mode);
  std::vector<std::string> texts;
  const auto note = [&](const std::string& delta) {
    texts.resize(parser.messages().size());
    if (!delta.empty()) texts.back() += delta;
  };
  for (const mxgpt::text::TokenId token : tokens) note(parser.feed(token));
  note(parser.finish());
  for (size_t i = 0; i < texts.size(); ++i) {
    MXGPT_CHECK(parser.messages()[i].message.text() == texts[i], "deltas of message {}", i);
  }
  return parser.messages();
}

void fuzz_parser(std::string_view bytes) {
  std::vector<mxgpt::text::TokenId> tokens;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    tokens.push_back(byte >= 0x10 && byte < 0x20 ? 256 + (byte - 0x10) : byte);
  }
  mxgpt::harmony::Conversation conversation;
  for (const auto& [message, end] : parse(tokens, mxgpt::harmony::HarmonyParser::Mode::kTolerant)) {
    MXGPT_CHECK(end != mxgpt::harmony::MessageEnd::kOpen, "a message is open after the end");
    conversation.messages.push_back(message);
  }
  encoding()->render_for_completion(conversation);
  try {
    parse(tokens, mxgpt::harmony::HarmonyParser::Mode::kStrict);
  } catch (const mxgpt::Error&) {
    // Expected for most inputs.
  }
}

void fuzz_renderer(std::string_view text) {
  mxgpt::harmony::Conversation conversation;
  std::vector<mxgpt::text::TokenId> tokens;
  try {
    const json::value value = mxgpt::json::parse(text, "input");
    conversation = mxgpt::harmony::conversation_from_json(mxgpt::json::Node(value, "input"));
    tokens = encoding()->render_for_training(conversation, mxgpt::harmony::AnalysisPolicy::kKeep);
  } catch (const mxgpt::Error&) {
    return;
  }
  const auto parsed = parse(tokens, mxgpt::harmony::HarmonyParser::Mode::kTolerant);
  MXGPT_CHECK(parsed.size() == conversation.messages.size(), "{} messages became {}",
              conversation.messages.size(), parsed.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bytes.starts_with('{') ? fuzz_renderer(bytes) : fuzz_parser(bytes);
  return 0;
}
