// Tokens that a tokenizer.json adds to those of the model. They are found in the text before
// anything else happens to it, or, if `normalized`, after normalization.
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
  bool special = false;      ///< a control token, which text from users must not produce
  bool normalized = true;    ///< looked for in the normalized text, by its own normalized form
  bool lstrip = false;       ///< takes the blanks before it
  bool rstrip = false;       ///< takes the blanks behind it
  bool single_word = false;  ///< matches only where no word character adjoins

  static std::vector<AddedToken> list_from_json(const json::Node& node);
};

/// Immutable; safe to share between threads.
class AddedTokens {
 public:
  /// Tokens that `model` does not know get the ids from `first_id` on, in their order: the
  /// `tokenizers` package counts them behind the model's tokens whatever ids the file gives.
  /// `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Vocabulary& model, text::TokenId first_id,
              const Normalizer* normalizer);

  enum class Stage { kRaw, kNormalized };

  /// Cuts `text` at the added tokens of a stage: calls part(begin, end, id) for the whole of it in
  /// order, with kNoToken for what is no added token. Parts may be empty. A control token stays
  /// text unless control(begin, end) allows it there.
  void split(std::string_view text, Stage stage, FunctionRef<bool(size_t, size_t)> allow_special,
             FunctionRef<void(size_t, size_t, text::TokenId)> emit) const;

  /// Ids and spellings, the latter normalized where the token is.
  const Vocabulary& vocabulary() const { return vocabulary_; }
  /// kNoToken if there is none.
  text::TokenId find(std::string_view content) const { return contents_.find(content); }
  /// Whether a token spelled like this is a control token.
  bool is_special(std::string_view spelling) const { return special_.find(spelling) != kNoToken; }

 private:
  const AddedToken& by_id(text::TokenId id) const;

  std::vector<AddedToken> tokens_;
  std::vector<int32_t> index_of_id_;  ///< into tokens_, -1: none
  Vocabulary contents_, vocabulary_, special_;
  ByteTrie raw_, normalized_;
};

}  // namespace mxgpt::tokenizer
