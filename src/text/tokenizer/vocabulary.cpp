#include "text/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace mxgpt::tokenizer {

Vocabulary::Vocabulary(size_t tokens, size_t bytes) {
  text_.reserve(bytes);
  by_id_.reserve(tokens);
  slots_.resize(std::bit_ceil(std::max<size_t>(16, tokens * 2)));
}

size_t Vocabulary::slot_of(std::string_view token, uint32_t token_hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t i = token_hash & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.id == kNoToken) return i;
    if (slot.hash == token_hash && slot.length == token.size() &&
        token == std::string_view(text_.data() + slot.offset, slot.length)) {
      return i;
    }
  }
}

void Vocabulary::grow(size_t slots) {
  std::vector<Slot> old(slots);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kNoToken) continue;
    size_t i = slot.hash & mask;
    while (slots_[i].id != kNoToken) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

void Vocabulary::add(std::string_view token, text::TokenId id) {
  MXGPT_CHECK(id >= 0 && id <= kMaxTokenId, "id {}", id);
  if ((size_ + 1) * 2 > slots_.size()) grow(slots_.size() * 2);
  const uint32_t token_hash = hash(token);
  Slot& slot = slots_[slot_of(token, token_hash)];
  if (slot.id == kNoToken) {
    if (text_.size() + token.size() > UINT32_MAX)
      throw Error("vocabulary", "the tokens exceed 4 GiB");
    slot = {token_hash, static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size()),
            id};
    text_ += token;
    max_token_bytes_ = std::max(max_token_bytes_, token.size());
    ++size_;
  }
  slot.id = id;
  if (id >= end_id()) by_id_.resize(id + 1);
  by_id_[id] = {slot.offset, slot.length};
}

bool Vocabulary::contains(text::TokenId id) const {
  return id >= 0 && id < end_id() && by_id_[id].length != kUnused;
}

std::string_view Vocabulary::id_to_token(text::TokenId id) const {
  if (!contains(id)) return {};
  return {text_.data() + by_id_[id].offset, by_id_[id].length};
}

}  // namespace mxgpt::tokenizer
