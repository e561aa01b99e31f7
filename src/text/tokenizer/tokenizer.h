// Converts text to token ids and back, for Hugging Face tokenizer.json files and GGUF vocabularies.
// Ids equal those of the `tokenizers` package.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::text {

using TokenId = int32_t;

struct EncodeOptions {
  /// Applies the post-processor (BOS, EOS, [CLS]…), as `encode(text, add_special_tokens=True)`
  /// does.
  bool add_special_tokens = false;
  /// Whether control tokens in the text become their ids. Must be false for text from users and
  /// tools: `<|start|>` is then encoded character by character. Added tokens that are not special
  /// always match.
  bool parse_special = true;
};

/// Part of a prompt: template markup, or text from users and tools.
struct TextPart {
  std::string text;
  bool literal = false;  ///< control tokens in it stay text
};

/// Immutable after construction and safe to share between threads.
class Tokenizer {
 public:
  /// From the contents of a tokenizer.json. `where` names the source in errors. Throws Error naming
  /// the field if it is malformed or unsupported.
  static std::shared_ptr<const Tokenizer> from_json(std::string_view text,
                                                    const std::string& where);
  /// From a tokenizer.json, a checkpoint directory with one, or a GGUF file.
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& path);
  ~Tokenizer();

  /// Invalid UTF-8 is first replaced by U+FFFD, one per maximal subpart.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// Encodes the concatenated parts, without the post-processor. Tokens may span parts, but no
  /// control token matches if any of its characters is in a literal part.
  std::vector<TokenId> encode(std::span<const TextPart> parts) const;

  /// Unknown ids are skipped. `skip_special` drops control tokens. The result is valid UTF-8:
  /// incomplete characters become U+FFFD.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  std::optional<TokenId> token_to_id(std::string_view token) const;
  /// The token's string in the vocabulary (byte-level tokens in their printable alphabet); empty if
  /// unknown.
  std::string_view id_to_token(TokenId id) const;
  /// Highest id + 1, including added tokens.
  int32_t vocab_size() const;
  bool is_special(TokenId id) const;
  /// "BPE", "Unigram", "WordPiece" or "WordLevel".
  std::string_view kind() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  struct Range;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  /// `text` is valid UTF-8. Control tokens stay text in the sorted `literal_ranges`.
  std::vector<TokenId> encode_valid(std::string_view text, const EncodeOptions& options,
                                    std::span<const Range> literal_ranges) const;
  std::unique_ptr<const Impl> impl_;
};

/// Decodes ids incrementally. Returns whole UTF-8 characters; the concatenation equals decode() of
/// all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = false);
  ~StreamDecoder();
  /// Returns the text completed by this id; may be empty.
  std::string push(TokenId id);
  /// Returns the rest at the end of the stream; an incomplete character becomes U+FFFD.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mxgpt::text
