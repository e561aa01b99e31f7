// Tokens that tokenizer.json adds to the model's vocabulary. They are matched in the raw text, or,
// if `normalized`, after normalization.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/function_ref.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/vocabulary.h"

namespace mxgpt::tokenizer {

struct AddedToken {
  std::string content;
  bool special = false;      ///< control token, never produced by text from users
  bool normalized = true;    ///< matched in normalized form, in the normalized text
  bool lstrip = false;       ///< the match includes whitespace before the token
  bool rstrip = false;       ///< the match includes whitespace after the token
  bool single_word = false;  ///< matches only without adjacent word characters

  static std::vector<AddedToken> list_from_json(const json::Node& node);
};

/// Immutable; safe to share between threads.
class AddedTokens {
 public:
  /// Tokens missing in `model` get consecutive ids from `first_id` on, in order, whatever ids the
  /// file gives; the `tokenizers` package does the same. `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Vocabulary& model, text::TokenId first_id,
              const Normalizer* normalizer);

  enum class Stage { kRaw, kNormalized };

  /// Splits `text` at the added tokens of a stage. Calls emit(begin, end, id) for consecutive
  /// ranges, with kNoToken for text between tokens. Control tokens match only where
  /// allow_special(begin, end) holds.
  void split(std::string_view text, Stage stage, FunctionRef<bool(size_t, size_t)> allow_special,
             FunctionRef<void(size_t, size_t, text::TokenId)> emit) const;

  /// Ids and contents; contents are normalized if the token is.
  const Vocabulary& vocabulary() const { return vocabulary_; }
  /// kNoToken if not found.
  text::TokenId find(std::string_view content) const { return contents_.find(content); }
  /// Whether a token with this content is a control token.
  bool is_special(std::string_view spelling) const { return special_.find(spelling) != kNoToken; }

 private:
  const AddedToken& by_id(text::TokenId id) const;

  std::vector<AddedToken> tokens_;
  std::vector<int32_t> index_of_id_;  ///< into tokens_, -1: none
  Vocabulary contents_, vocabulary_, special_;
  ByteTrie raw_, normalized_;
};

}  // namespace mxgpt::tokenizer
