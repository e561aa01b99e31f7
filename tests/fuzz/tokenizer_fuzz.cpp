// Runs an arbitrary tokenizer.json on arbitrary text. Input: the file, a zero byte, the text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/gguf.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode.h"

namespace {

void use(const std::shared_ptr<const mxgpt::text::Tokenizer>& tokenizer, std::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids =
        tokenizer->encode(text, {.add_special_tokens = special, .parse_special = special});
    const std::string all = tokenizer->decode(ids, special);
    if (!mxgpt::text::unicode::is_valid(all)) std::abort();
    mxgpt::text::StreamDecoder stream(tokenizer, special);
    std::string joined;
    for (const auto id : ids) joined += stream.push(id);
    joined += stream.finish();
    if (joined != all) std::abort();
  }
  // Parts encode as their concatenation; literal parts match no control tokens.
  const std::string first(text.substr(0, text.size() / 2)), second(text.substr(text.size() / 2));
  const std::vector<mxgpt::text::TextPart> frame{{first}, {second}},
      plain{{first, true}, {second, true}};
  if (!mxgpt::text::unicode::is_valid(first) || !mxgpt::text::unicode::is_valid(second)) return;
  if (tokenizer->encode(frame) != tokenizer->encode(text)) std::abort();
  if (tokenizer->encode(plain) != tokenizer->encode(text, {.parse_special = false})) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  try {
    if (input.starts_with(mxgpt::io::kGgufMagic)) {
      const auto file =
          mxgpt::io::GgufFile::from_bytes({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
      mxgpt::tokenizer::pipeline_from_gguf(mxgpt::tokenizer::GgufVocabulary::read(file), "fuzz");
      return 0;
    }
    const auto tokenizer = mxgpt::text::Tokenizer::from_json(input.substr(0, end), "fuzz");
    if (end != std::string_view::npos) use(tokenizer, input.substr(end + 1));
  } catch (const mxgpt::Error&) {
  }
  return 0;
}
