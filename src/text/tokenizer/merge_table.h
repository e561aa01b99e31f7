#pragma once

#include <cstdint>
#include <vector>

#include "text/tokenizer/hash.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

/// What merging two neighbouring tokens gives, and how early it is done: lower ranks first.
struct Merge {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t rank = kNone;
  text::TokenId merged = -1;
};

/// The merges of a BPE model, by the ids of left and right. Open addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(size_t merges);

  /// A pair that is there already gets the new rank. Holds no more than the announced number.
  void add(text::TokenId left, text::TokenId right, Merge merge);

  /// Rank kNone if the two do not merge.
  Merge find(text::TokenId left, text::TokenId right) const {
    return slots_[slot_of(key(left, right))].merge;
  }

 private:
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = UINT64_MAX;

  static uint64_t key(text::TokenId left, text::TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t i = folded_multiply(key ^ seed_, 0x9E3779B97F4A7C15) & mask;
    while (slots_[i].key != key && slots_[i].key != kFree) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;
  uint64_t seed_ = hash_seed();
};

}  // namespace mxgpt::tokenizer
