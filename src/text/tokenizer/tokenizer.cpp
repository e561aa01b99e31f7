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

namespace mxgpt {

using tokenizer::AddedTokens;
using tokenizer::kNoToken;
using tokenizer::NormalizedText;
using tokenizer::Piece;
using tokenizer::ScratchPool;

struct Tokenizer::Impl : tokenizer::Pipeline {
  explicit Impl(Pipeline parts) : Pipeline(std::move(parts)), scratch(*model) {
    const TokenId end = std::max(added->spellings().end_id(), model->vocabulary().end_id());
    special.resize(end);
    for (TokenId id = 0; id < end; ++id) special[id] = added->is_special(spelling(id));
  }

  /// The added token of this id, or else the model's; null data if there is none.
  std::string_view spelling(TokenId id) const {
    return added->spellings().has(id) ? added->spellings().spelling(id)
                                      : model->vocabulary().spelling(id);
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
      throw Error(path.string(), "holds no tokenizer.json",
                  "name the checkpoint's directory or the file itself");
    }
  }
  if (is_gguf(file)) {
    const GgufFile gguf = GgufFile::open(file);
    const auto vocabulary = tokenizer::GgufVocabulary::read(gguf);
    auto impl = std::make_unique<Impl>(tokenizer::pipeline_from_gguf(vocabulary, file.string()));
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
  }
  const MappedFile mapped(file);
  return from_json({reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()},
                   file.string());
}

namespace {

/// Encodes text that holds no more added tokens.
void encode_plain(const tokenizer::Pipeline& parts, const Piece& text,
                  tokenizer::Model::Scratch& scratch, std::vector<TokenId>& out) {
  if (text.text.empty()) return;
  const auto encode_piece = [&](const Piece& piece) {
    parts.model->encode(piece.text, scratch, out);
  };
  if (parts.pre_tokenizer)
    parts.pre_tokenizer->split(text, encode_piece);
  else
    encode_piece(text);
}

}  // namespace

/// Bytes of a text.
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
  std::vector<Range> plain;
  for (const TextPart& part : parts) {
    const size_t begin = text.size();
    unicode::append_replacing_invalid(text, part.text);
    if (part.plain && begin < text.size()) plain.push_back({begin, text.size()});
  }
  return encode_valid(text, {}, plain);
}

std::vector<TokenId> Tokenizer::encode_valid(std::string_view text, const EncodeOptions& options,
                                             std::span<const Range> plain) const {
  ScratchPool::Lease scratch(impl_->scratch);
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 8);

  const auto control = [&](size_t begin, size_t end) {
    if (!options.parse_special) return false;
    const auto next = std::partition_point(plain.begin(), plain.end(),
                                           [&](const Range& range) { return range.end <= begin; });
    return next == plain.end() || end <= next->begin;
  };
  impl_->added->split(
      text, AddedTokens::Stage::kRaw, control, [&](size_t begin, size_t end, TokenId id) {
        if (id != kNoToken) return ids.push_back(id);
        NormalizedText section{std::string(text.substr(begin, end - begin)), begin == 0};
        const auto& normalizer = impl_->normalizer;
        if (normalizer) normalizer->normalize(section);
        // Where a normalizer has moved a character to cannot be said: then all of the section
        // counts.
        const auto control_in_section = [&](size_t from, size_t to) {
          return normalizer ? control(begin, end) : control(begin + from, begin + to);
        };
        impl_->added->split(section.text, AddedTokens::Stage::kNormalized, control_in_section,
                            [&](size_t from, size_t to, TokenId added) {
                              if (added != kNoToken) return ids.push_back(added);
                              encode_plain(*impl_,
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
    const std::string_view token = impl_->spelling(id);
    if (token.data() && !(skip_special && impl_->special[id])) chain.put(token);
  }
  chain.finish();
  return text;
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  TokenId id = impl_->added->find(token);
  if (id == kNoToken) id = impl_->model->vocabulary().find(token);
  return id == kNoToken ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::id_to_token(TokenId id) const {
  return impl_->spelling(id);
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
  std::string text;  ///< what the chain has made certain and nobody has taken yet
  tokenizer::DecoderChain chain;
};

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : state_(std::make_unique<State>(std::move(tokenizer), skip_special)) {}
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(TokenId id) {
  const std::string_view token = state_->tokenizer->impl_->spelling(id);
  if (token.data() && !(state_->skip_special && state_->tokenizer->is_special(id)))
    state_->chain.put(token);
  return std::exchange(state_->text, {});
}

std::string StreamDecoder::finish() {
  state_->chain.finish();
  return std::exchange(state_->text, {});
}

}  // namespace mxgpt
