#pragma once

#include <cstdint>
#include <vector>

#include "text/tokenizer/hash.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

/// Result and priority of merging two adjacent tokens; lower ranks first.
struct Merge {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t rank = kNone;
  text::TokenId merged = -1;
};

/// The merges of a BPE model, keyed by the ids of left and right: a hash table with open
/// addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(size_t merges);

  /// Replaces the merge of an existing pair. At most `merges` pairs may be added.
  void add(text::TokenId left, text::TokenId right, Merge merge);

  /// Rank kNone if the pair does not merge.
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
