// Maps tokens to ids and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/hash.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

inline constexpr text::TokenId kNoToken = -1;

/// Limit on ids, which index a table. The largest vocabulary in use has 262,144 tokens.
inline constexpr text::TokenId kMaxTokenId = (1 << 22) - 1;

/// Both directions of the mapping: one string with all tokens, and a hash table with open
/// addressing.
class Vocabulary {
 public:
  Vocabulary() : Vocabulary(0, 0) {}
  /// Reserves space for `tokens` tokens with `bytes` bytes in total.
  Vocabulary(size_t tokens, size_t bytes);

  /// Replaces the id of an existing token, and the token of an existing id. `id` is in [0,
  /// kMaxTokenId].
  void add(std::string_view token, text::TokenId id);

  /// kNoToken if not found.
  text::TokenId find(std::string_view token) const { return find(token, hash(token)); }

  // The same in two steps, to prefetch many lookups and hide memory latency.
  uint32_t hash(std::string_view token) const {
    return static_cast<uint32_t>(hash_bytes(token, seed_));
  }
  void prefetch(uint32_t token_hash) const {
    __builtin_prefetch(&slots_[token_hash & (slots_.size() - 1)]);
  }
  text::TokenId find(std::string_view token, uint32_t token_hash) const {
    return token.size() > max_token_bytes_ ? kNoToken : slots_[slot_of(token, token_hash)].id;
  }

  /// Empty if the id is unknown. Valid until the next add().
  std::string_view id_to_token(text::TokenId id) const;
  bool contains(text::TokenId id) const;

  size_t size() const { return size_; }  ///< distinct tokens
  /// Highest id + 1.
  text::TokenId end_id() const { return static_cast<text::TokenId>(by_id_.size()); }
  size_t max_token_bytes() const { return max_token_bytes_; }  ///< bytes of the longest token

 private:
  struct Slot {
    uint32_t hash;
    uint32_t offset;
    uint32_t length;
    text::TokenId id = kNoToken;  ///< kNoToken: free slot
  };
  struct Range {
    uint32_t offset;
    uint32_t length = kUnused;
  };
  static constexpr uint32_t kUnused = UINT32_MAX;

  /// The slot with the token, or the free slot for it.
  size_t slot_of(std::string_view token, uint32_t token_hash) const;
  void grow(size_t slots);

  std::string text_;
  std::vector<Slot> slots_;  ///< size is a power of two; at most half full
  std::vector<Range> by_id_;
  size_t size_ = 0;
  size_t max_token_bytes_ = 0;
  uint64_t seed_ = hash_seed();
};

}  // namespace mxgpt::tokenizer
