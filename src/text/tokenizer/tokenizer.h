// Text to token ids and back. One engine runs Hugging Face tokenizer.json files and the
// vocabularies that GGUF files carry; its ids equal those of the `tokenizers` package.
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
  /// Runs the post-processor (BOS, EOS, [CLS]…), as `encode(text, add_special_tokens=True)` does.
  bool add_special_tokens = false;
  /// Whether control tokens spelled out in the text become their ids. False for text from users and
  /// tools: then `<|start|>` is encoded as the characters it is made of. (Added tokens that are not
  /// `special` are ordinary vocabulary and are matched either way.)
  bool parse_special = true;
};

/// A piece of a text that is put together from a frame and from what people wrote.
struct TextPart {
  std::string text;
  bool literal = false;  ///< control tokens spelled out here stay text
};

/// Immutable after construction and safe to share between threads.
class Tokenizer {
 public:
  /// From the text of a tokenizer.json. `where` names the source in errors. Throws Error naming the
  /// field for anything malformed or unsupported.
  static std::shared_ptr<const Tokenizer> from_json(std::string_view text,
                                                    const std::string& where);
  /// From a tokenizer.json, a checkpoint directory that holds one, or a GGUF file.
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& path);
  ~Tokenizer();

  /// Invalid UTF-8 is replaced by U+FFFD (one for each maximal subpart) before anything else.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// The ids of all parts as one text, without the post-processor: tokens may span parts, but no
  /// control token is found where a character of it is in a plain part.
  std::vector<TokenId> encode(std::span<const TextPart> parts) const;

  /// Unknown ids are skipped. `skip_special` drops control tokens. The result is valid UTF-8: bytes
  /// that form no character become U+FFFD.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  std::optional<TokenId> token_to_id(std::string_view token) const;
  /// The token as the vocabulary spells it (byte-level tokens in their printable alphabet); empty
  /// if unknown.
  std::string_view id_to_token(TokenId id) const;
  /// Highest id + 1, added tokens included.
  int32_t vocab_size() const;
  bool is_special(TokenId id) const;
  /// "BPE", "Unigram", "WordPiece" or "WordLevel".
  std::string_view kind() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  struct Range;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  /// `text` is valid UTF-8; in the ranges `plain`, which are in order, control tokens stay text.
  std::vector<TokenId> encode_valid(std::string_view text, const EncodeOptions& options,
                                    std::span<const Range> literal_ranges) const;
  std::unique_ptr<const Impl> impl_;
};

/// Turns ids into text as they arrive. What it returns is always whole UTF-8 characters, and the
/// pieces joined equal `decode` of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = false);
  ~StreamDecoder();
  /// The text that became certain with this id; may be empty.
  std::string push(TokenId id);
  /// What is left when no more ids will come: an unfinished character becomes U+FFFD.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mxgpt::text
