#include "text/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/gguf.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "text/tokenizer/pipeline.h"
#include "text/unicode.h"

namespace mxgpt::text {

using tokenizer::AddedTokens;
using tokenizer::kNoToken;
using tokenizer::NormalizedText;
using tokenizer::PreToken;
using tokenizer::ScratchPool;

struct Tokenizer::Impl : tokenizer::Pipeline {
  explicit Impl(tokenizer::Pipeline parts)
      : tokenizer::Pipeline(std::move(parts)), scratch(*model) {
    const TokenId end = std::max(added_tokens->vocabulary().end_id(), model->vocabulary().end_id());
    special.resize(end);
    for (TokenId id = 0; id < end; ++id) special[id] = added_tokens->is_special(id_to_token(id));
  }

  /// The added token with this id, or else the model's; null data if there is none.
  std::string_view id_to_token(TokenId id) const {
    return added_tokens->vocabulary().contains(id) ? added_tokens->vocabulary().id_to_token(id)
                                                   : model->vocabulary().id_to_token(id);
  }

  std::vector<bool> special;  ///< by id
  mutable ScratchPool scratch;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::from_json(std::string_view text,
                                                      const std::string& where) {
  auto impl = std::make_unique<Impl>(tokenizer::Pipeline::from_json(text, where));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& path) {
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(path)) {
    file = path / "tokenizer.json";
    if (!std::filesystem::exists(file)) {
      throw Error(path.string(), "contains no tokenizer.json",
                  "give the checkpoint's directory or the file itself");
    }
  }
  if (io::is_gguf(file)) {
    const io::GgufFile gguf = io::GgufFile::open(file);
    const auto vocabulary = tokenizer::GgufVocabulary::read(gguf);
    auto impl = std::make_unique<Impl>(tokenizer::pipeline_from_gguf(vocabulary, file.string()));
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
  }
  const MappedFile mapped(file);
  return from_json({reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()},
                   file.string());
}

namespace {

/// Encodes text without added tokens.
void encode_segment(const tokenizer::Pipeline& pipeline, const PreToken& text,
                    tokenizer::Model::Scratch& scratch, std::vector<TokenId>& out) {
  if (text.text.empty()) return;
  const auto encode_pre_token = [&](const PreToken& pre_token) {
    pipeline.model->encode(pre_token.text, scratch, out);
  };
  if (pipeline.pre_tokenizer)
    pipeline.pre_tokenizer->split(text, encode_pre_token);
  else
    encode_pre_token(text);
}

}  // namespace

/// A range of bytes in a text.
struct Tokenizer::Range {
  size_t begin, end;
};

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (unicode::is_valid(text)) return encode_valid(text, options, {});
  std::string repaired;
  unicode::append_replacing_invalid(repaired, text);
  return encode_valid(repaired, options, {});
}

std::vector<TokenId> Tokenizer::encode(std::span<const TextPart> parts) const {
  std::string text;
  std::vector<Range> literal_ranges;
  for (const TextPart& part : parts) {
    const size_t begin = text.size();
    unicode::append_replacing_invalid(text, part.text);
    if (part.literal && begin < text.size()) literal_ranges.push_back({begin, text.size()});
  }
  return encode_valid(text, {}, literal_ranges);
}

std::vector<TokenId> Tokenizer::encode_valid(std::string_view text, const EncodeOptions& options,
                                             std::span<const Range> literal_ranges) const {
  ScratchPool::Lease scratch(impl_->scratch);
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 8);

  const auto allow_special = [&](size_t begin, size_t end) {
    if (!options.parse_special) return false;
    const auto next = std::partition_point(literal_ranges.begin(), literal_ranges.end(),
                                           [&](const Range& range) { return range.end <= begin; });
    return next == literal_ranges.end() || end <= next->begin;
  };
  impl_->added_tokens->split(
      text, AddedTokens::Stage::kRaw, allow_special, [&](size_t begin, size_t end, TokenId id) {
        if (id != tokenizer::kNoToken) return ids.push_back(id);
        NormalizedText section{std::string(text.substr(begin, end - begin)), begin == 0};
        const auto& normalizer = impl_->normalizer;
        if (normalizer) normalizer->normalize(section);
        // Offsets are not tracked through a normalizer, so the whole section decides.
        const auto allow_special_in_section = [&](size_t from, size_t to) {
          return normalizer ? allow_special(begin, end) : allow_special(begin + from, begin + to);
        };
        impl_->added_tokens->split(
            section.text, AddedTokens::Stage::kNormalized, allow_special_in_section,
            [&](size_t from, size_t to, TokenId added) {
              if (added != tokenizer::kNoToken) return ids.push_back(added);
              encode_segment(*impl_,
                             {std::string_view(section.text).substr(from, to - from),
                              section.at_start && from == 0},
                             *scratch, ids);
            });
      });
  for (const auto& processor : impl_->post_processors) {
    ids = processor.apply(std::move(ids), options.add_special_tokens);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  tokenizer::DecoderChain chain(impl_->decoders, text);
  for (const TokenId id : ids) {
    const std::string_view token = impl_->id_to_token(id);
    if (token.data() && !(skip_special && impl_->special[id])) chain.put(token);
  }
  chain.finish();
  return text;
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  TokenId id = impl_->added_tokens->find(token);
  if (id == tokenizer::kNoToken) id = impl_->model->vocabulary().find(token);
  return id == tokenizer::kNoToken ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::id_to_token(TokenId id) const {
  return impl_->id_to_token(id);
}

int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(impl_->special.size());
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocab_size() && impl_->special[id];
}

std::string_view Tokenizer::kind() const {
  return impl_->model->kind();
}

struct StreamDecoder::State {
  State(std::shared_ptr<const Tokenizer> t, bool skip)
      : tokenizer(std::move(t)), skip_special(skip), chain(tokenizer->impl_->decoders, text) {}

  std::shared_ptr<const Tokenizer> tokenizer;
  bool skip_special;
  std::string text;  ///< final text not yet returned
  tokenizer::DecoderChain chain;
};

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : state_(std::make_unique<State>(std::move(tokenizer), skip_special)) {}
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(TokenId id) {
  const std::string_view token = state_->tokenizer->impl_->id_to_token(id);
  if (token.data() && !(state_->skip_special && state_->tokenizer->is_special(id)))
    state_->chain.put(token);
  return std::exchange(state_->text, {});
}

std::string StreamDecoder::finish() {
  state_->chain.finish();
  return std::exchange(state_->text, {});
}

}  // namespace mxgpt::text
