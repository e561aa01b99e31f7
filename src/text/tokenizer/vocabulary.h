// The tokens of a model and their ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/hash.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

inline constexpr text::TokenId kNoToken = -1;

/// Ids are indices of a table, so a file must not name huge ones. The largest vocabulary in use has
/// 262,144.
inline constexpr text::TokenId kMaxTokenId = (1 << 22) - 1;

/// Both directions of the mapping. All spellings lie in one string; the hash table is
/// open-addressed.
class Vocabulary {
 public:
  Vocabulary() : Vocabulary(0, 0) {}
  /// For about so many tokens with so many bytes together.
  Vocabulary(size_t tokens, size_t bytes);

  /// A token that is there already gets the new id; an id that is in use is from now on spelled the
  /// new way. `id` is in [0, kMaxTokenId].
  void add(std::string_view token, text::TokenId id);

  /// kNoToken if there is none.
  text::TokenId find(std::string_view token) const { return find(token, hash(token)); }

  // The same in two steps, for whoever looks up many: tokens lie all over memory, and a table that
  // is told early what will be asked has it at hand.
  uint32_t hash(std::string_view token) const {
    return static_cast<uint32_t>(hash_bytes(token, seed_));
  }
  void prefetch(uint32_t token_hash) const {
    __builtin_prefetch(&slots_[token_hash & (slots_.size() - 1)]);
  }
  text::TokenId find(std::string_view token, uint32_t token_hash) const {
    return token.size() > max_token_bytes_ ? kNoToken : slots_[slot_of(token, token_hash)].id;
  }

  /// Empty if there is no such id. Valid until the next `add`.
  std::string_view id_to_token(text::TokenId id) const;
  bool contains(text::TokenId id) const;

  size_t size() const { return size_; }  ///< distinct tokens
  text::TokenId end_id() const {
    return static_cast<text::TokenId>(by_id_.size());
  }                                                            ///< highest id + 1
  size_t max_token_bytes() const { return max_token_bytes_; }  ///< bytes of the longest token

 private:
  struct Slot {
    uint32_t hash;
    uint32_t offset;
    uint32_t length;
    text::TokenId id = kNoToken;  ///< kNoToken: the slot is free
  };
  struct Range {
    uint32_t offset;
    uint32_t length = kUnused;
  };
  static constexpr uint32_t kUnused = UINT32_MAX;

  /// The slot that holds the token, or the free one where it belongs.
  size_t slot_of(std::string_view token, uint32_t token_hash) const;
  void grow(size_t slots);

  std::string text_;
  std::vector<Slot> slots_;  ///< a power of two, at most half full
  std::vector<Range> by_id_;
  size_t size_ = 0;
  size_t max_token_bytes_ = 0;
  uint64_t seed_ = hash_seed();
};

}  // namespace mxgpt::tokenizer
