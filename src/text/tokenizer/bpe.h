// Byte pair encoding (Sennrich et al. 2016): a word starts as its characters or bytes; the adjacent
// pair with the lowest merge rank is merged until no merge applies.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/model.h"

namespace mxgpt::tokenizer {

class Bpe final : public Model {
 public:
  struct Options {
    std::optional<std::string> unk_token;   ///< for characters outside the vocabulary
    std::string continuing_subword_prefix;  ///< before each character of a word except the first
    std::string end_of_word_suffix;         ///< after the last character of a word
    bool fuse_unk = false;                  ///< adjacent unknown characters become one token
    bool byte_fallback = false;             ///< unknown characters become tokens <0x00> to <0xFF>
    bool ignore_merges = false;             ///< a word in the vocabulary is one token
    bool byte_level = false;                ///< words are bytes; the vocabulary uses ByteAlphabet
  };

  Bpe(Vocabulary vocabulary, MergeTable merges, Options options);
  static std::unique_ptr<Bpe> from_json(const json::Node& node, bool byte_level);

  std::string_view kind() const override { return "BPE"; }
  std::unique_ptr<Model::Scratch> make_scratch() const override;
  void encode(std::string_view word, Model::Scratch& scratch,
              std::vector<text::TokenId>& out) const override;

  struct Symbol;

 private:
  class WordCache;
  struct Scratch;

  /// Tokens of one character or byte before merging.
  struct InitialTokens {
    text::TokenId token = kNoToken;       ///< its own token, if any
    std::vector<text::TokenId> fallback;  ///< else its byte tokens; empty: unknown
  };
  InitialTokens initial_tokens(std::string_view spelled) const;

  text::TokenId find_whole_word(std::string_view word, Scratch& scratch) const;
  void split_into_symbols(std::string_view word, Scratch& scratch) const;
  void append_initial_tokens(const InitialTokens& start, Scratch& scratch,
                             bool& unknown_pending) const;
  void merge(Scratch& scratch) const;

  MergeTable merges_;
  Options options_;
  text::TokenId unk_id_ = kNoToken;
  std::array<InitialTokens, 256> bytes_;  ///< with byte_level
};

}  // namespace mxgpt::tokenizer
