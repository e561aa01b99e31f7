// Reads Hugging Face tokenizer.json. Each component parses its own section. Truncation and padding
// settings are ignored.
#include <fmt/format.h>

#include "base/escape.h"
#include "text/tokenizer/pipeline.h"

namespace mxgpt::tokenizer {

Pipeline Pipeline::from_json(std::string_view text, const std::string& where) {
  const json::value document = json::parse(text, where);
  const json::Node root(document, where + ":");
  if (const auto version = root.find("version"); version && version->string() != "1.0") {
    version->fail(
        fmt::format("must be \"1.0\", but is \"{}\"", escape_for_terminal(version->string())));
  }
  Pipeline pipeline;
  const json::Node model = root["model"];
  const auto pre_tokenizer = root.find("pre_tokenizer");
  const bool byte_level =
      pre_tokenizer && Model::supports_raw_bytes(model) && ends_in_byte_level(*pre_tokenizer);
  pipeline.model = Model::from_json(model, byte_level);
  if (pre_tokenizer) {
    pipeline.pre_tokenizer = byte_level ? pre_tokenizer_with_raw_bytes(*pre_tokenizer)
                                        : PreTokenizer::from_json(*pre_tokenizer);
  }
  if (const auto normalizer = root.find("normalizer"))
    pipeline.normalizer = Normalizer::from_json(*normalizer);

  std::vector<AddedToken> added;
  if (const auto list = root.find("added_tokens")) added = AddedToken::list_from_json(*list);
  const Vocabulary& vocabulary = pipeline.model->vocabulary();
  const bool is_list = pipeline.model->kind() == "Unigram";
  const text::TokenId first_id =
      is_list ? vocabulary.end_id() : static_cast<text::TokenId>(vocabulary.size());
  pipeline.added_tokens = std::make_unique<AddedTokens>(std::move(added), vocabulary, first_id,
                                                        pipeline.normalizer.get());

  if (const auto processor = root.find("post_processor")) {
    pipeline.post_processors = PostProcessor::list_from_json(*processor);
  }
  if (const auto decoder = root.find("decoder"))
    pipeline.decoders = decoders_from_json(*decoder);
  else
    pipeline.decoders.push_back(space_joining_decoder());
  return pipeline;
}

}  // namespace mxgpt::tokenizer
