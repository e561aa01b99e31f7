#include "text/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"
#include "base/escape.h"
#include "text/tokenizer/byte_level.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {

MergeTable::MergeTable(size_t merges) : slots_(std::bit_ceil(std::max<size_t>(2, merges * 2))) {}

void MergeTable::add(text::TokenId left, text::TokenId right, Merge merge) {
  const uint64_t k = key(left, right);
  slots_[slot_of(k)] = {k, merge};
}

/// A token of the word being merged, in a linked list.
struct Bpe::Symbol {
  text::TokenId token;
  int32_t previous, next;  ///< -1: none
  Merge merge;             ///< with the next symbol; rank kNone if none, or if merged away
};

/// Direct-mapped cache from words to ids, of fixed size.
class Bpe::WordCache {
 public:
  static constexpr size_t kMaxBytes = 26, kMaxIds = 8;

  struct Entry {
    uint8_t length = 0;  ///< bytes of the word; 0: free entry
    uint8_t count = 0;
    char bytes[kMaxBytes];
    text::TokenId ids[kMaxIds];
  };

  /// The cache entry for the word; it may hold another word.
  Entry& slot(std::string_view word) { return entries_[hash_bytes(word, seed_) >> (64 - kBits)]; }

  static bool matches(const Entry& entry, std::string_view word) {
    return word == std::string_view(entry.bytes, entry.length);
  }

  static void store(Entry& entry, std::string_view word, const text::TokenId* ids, size_t count) {
    if (count > kMaxIds) return;
    entry.length = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(count);
    std::copy(word.begin(), word.end(), entry.bytes);
    std::copy(ids, ids + count, entry.ids);
  }

 private:
  static constexpr int kBits = 15;
  std::vector<Entry> entries_ = std::vector<Entry>(size_t{1} << kBits);
  uint64_t seed_ = hash_seed();
};

struct Bpe::Scratch : Model::Scratch {
  WordCache cache;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> queue;  ///< min-heap of rank << 32 | position
  std::string spelled;

  /// Frees the buffers after a very long word.
  void shrink_if_large() {
    if (symbols.capacity() <= kMaxRetainedSymbols) return;
    symbols = {};
    queue = {};
  }
  static constexpr size_t kMaxRetainedSymbols = 1 << 16;
};

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, Options options)
    : Model(std::move(vocabulary)), merges_(std::move(merges)), options_(std::move(options)) {
  if (options_.unk_token) unk_id_ = this->vocabulary().find(*options_.unk_token);
  if (!options_.byte_level) return;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    std::string spelled;
    ByteAlphabet::get().append_encoded(spelled, {&c, 1});
    bytes_[byte] = initial_tokens(spelled);
  }
}

std::unique_ptr<Model::Scratch> Bpe::make_scratch() const {
  return std::make_unique<Scratch>();
}

Bpe::InitialTokens Bpe::initial_tokens(std::string_view spelled) const {
  InitialTokens start{vocabulary().find(spelled), {}};
  if (start.token != kNoToken || !options_.byte_fallback) return start;
  for (const char byte : spelled) {
    const text::TokenId id =
        vocabulary().find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(byte)));
    if (id == kNoToken) return {};
    start.fallback.push_back(id);
  }
  return start;
}

void Bpe::encode(std::string_view word, Model::Scratch& base,
                 std::vector<text::TokenId>& out) const {
  auto& scratch = static_cast<Scratch&>(base);
  WordCache::Entry* entry = nullptr;
  if (word.size() <= WordCache::kMaxBytes) {
    entry = &scratch.cache.slot(word);
    if (WordCache::matches(*entry, word)) {
      out.insert(out.end(), entry->ids, entry->ids + entry->count);
      return;
    }
  }
  const size_t before = out.size();
  if (const text::TokenId whole =
          options_.ignore_merges ? find_whole_word(word, scratch) : kNoToken;
      whole != kNoToken) {
    out.push_back(whole);
  } else {
    split_into_symbols(word, scratch);
    merge(scratch);
    for (int32_t i = scratch.symbols.empty() ? -1 : 0; i >= 0; i = scratch.symbols[i].next) {
      out.push_back(scratch.symbols[i].token);
    }
    scratch.shrink_if_large();
  }
  if (entry) WordCache::store(*entry, word, out.data() + before, out.size() - before);
}

text::TokenId Bpe::find_whole_word(std::string_view word, Scratch& scratch) const {
  if (word.size() > vocabulary().max_token_bytes()) return kNoToken;
  if (!options_.byte_level) return vocabulary().find(word);
  scratch.spelled.clear();
  ByteAlphabet::get().append_encoded(scratch.spelled, word);
  return vocabulary().find(scratch.spelled);
}

namespace {

void append_symbol(std::vector<Bpe::Symbol>& symbols, text::TokenId token) {
  const auto i = static_cast<int32_t>(symbols.size());
  if (i > 0) symbols.back().next = i;
  symbols.push_back({token, i - 1, -1, {}});
}

}  // namespace

void Bpe::split_into_symbols(std::string_view word, Scratch& scratch) const {
  if (word.size() > INT32_MAX) throw Error("text", "a single word exceeds 2 GiB");
  scratch.symbols.clear();
  bool unknown_pending = false;
  if (options_.byte_level) {
    for (const char byte : word)
      append_initial_tokens(bytes_[static_cast<uint8_t>(byte)], scratch, unknown_pending);
  } else {
    for (size_t i = 0; i < word.size();) {
      const size_t end = i + text::unicode::length_of(word[i]);
      std::string& spelled = scratch.spelled;
      spelled.clear();
      if (i > 0) spelled += options_.continuing_subword_prefix;
      spelled.append(word, i, end - i);
      if (end == word.size()) spelled += options_.end_of_word_suffix;
      append_initial_tokens(initial_tokens(spelled), scratch, unknown_pending);
      i = end;
    }
  }
  if (unknown_pending) append_symbol(scratch.symbols, unk_id_);
}

// An unknown character is held until the next known or unknown one, to fuse adjacent ones. Byte
// tokens are emitted ahead of it, as in the `tokenizers` package.
void Bpe::append_initial_tokens(const InitialTokens& start, Scratch& scratch,
                                bool& unknown_pending) const {
  if (start.token != kNoToken) {
    if (unknown_pending) append_symbol(scratch.symbols, unk_id_);
    unknown_pending = false;
    append_symbol(scratch.symbols, start.token);
  } else if (!start.fallback.empty()) {
    for (const text::TokenId token : start.fallback) append_symbol(scratch.symbols, token);
  } else if (options_.unk_token) {
    if (unk_id_ == kNoToken) {
      throw Error("tokenizer", fmt::format("the unknown token '{}' is not in the vocabulary",
                                           escape_for_terminal(*options_.unk_token)));
    }
    if (unknown_pending && !options_.fuse_unk) append_symbol(scratch.symbols, unk_id_);
    unknown_pending = true;
  }
}

void Bpe::merge(Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  const auto entry_of = [&](int32_t i) {
    return static_cast<uint64_t>(symbols[i].merge.rank) << 32 | static_cast<uint32_t>(i);
  };
  const auto find_merge = [&](int32_t i) {
    const int32_t next = symbols[i].next;
    symbols[i].merge = next < 0 ? Merge{} : merges_.find(symbols[i].token, symbols[next].token);
    return symbols[i].merge.rank != Merge::kNone;
  };
  queue.clear();
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) {
    if (find_merge(i)) queue.push_back(entry_of(i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto push = [&](int32_t i) {
    queue.push_back(entry_of(i));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    const uint64_t top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    queue.pop_back();
    const auto i = static_cast<int32_t>(top & UINT32_MAX);
    Symbol& symbol = symbols[i];
    if (entry_of(i) != top) continue;  // stale: one of the two has merged with another neighbor

    const int32_t right = symbol.next;
    symbol.token = symbol.merge.merged;
    symbol.next = symbols[right].next;
    symbols[right].merge = {};
    if (symbol.next >= 0) symbols[symbol.next].previous = i;
    if (symbol.previous >= 0 && find_merge(symbol.previous)) push(symbol.previous);
    if (find_merge(i)) push(i);
  }
}

namespace {

/// Parses a merge, "left right" or ["left", "right"].
bool parse_merge(const json::value& v, std::string_view& left, std::string_view& right) {
  if (const auto* text = v.if_string()) {
    const std::string_view text_view = *text;
    const size_t space = text_view.find(' ');
    if (space == std::string_view::npos || text_view.find(' ', space + 1) != std::string_view::npos)
      return false;
    left = text_view.substr(0, space);
    right = text_view.substr(space + 1);
    return true;
  }
  const auto* pair = v.if_array();
  if (!pair || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string())
    return false;
  left = (*pair)[0].get_string();
  right = (*pair)[1].get_string();
  return true;
}

/// Fills a merge table. Each merge needs three vocabulary lookups; blocks of them are prefetched to
/// hide memory latency.
class MergeReader {
 public:
  MergeReader(const json::Node& list, const Vocabulary& vocabulary, size_t prefix)
      : list_(list), vocabulary_(vocabulary), prefix_(prefix), merges_(list.array().size()) {}

  MergeTable read() {
    for (const json::value& entry : list_.array()) {
      if (const auto* text = entry.if_string();
          text && std::string_view(*text).starts_with("#version"))
        continue;
      prefetch(entry);
      if (pending_count_ == kBlock) resolve_pending();
    }
    resolve_pending();
    return std::move(merges_);
  }

 private:
  static constexpr size_t kBlock = 32;

  struct Pending {
    std::string_view left, right;
    std::string joined;
    uint32_t left_hash, right_hash, joined_hash;
  };

  void prefetch(const json::value& entry) {
    Pending& next = pending_[pending_count_];
    if (!parse_merge(entry, next.left, next.right)) {
      fail("must be two tokens, \"a b\" or [\"a\", \"b\"]");
    }
    if (next.right.size() < prefix_)
      fail(fmt::format("'{}' lacks the continuing prefix", escape_for_terminal(next.right)));
    next.joined.assign(next.left);
    next.joined += next.right.substr(prefix_);
    next.left_hash = vocabulary_.hash(next.left);
    next.right_hash = vocabulary_.hash(next.right);
    next.joined_hash = vocabulary_.hash(next.joined);
    for (const uint32_t hash : {next.left_hash, next.right_hash, next.joined_hash})
      vocabulary_.prefetch(hash);
    ++pending_count_;
  }

  void resolve_pending() {
    for (size_t i = 0; i < pending_count_; ++i) {
      const Pending& pending = pending_[i];
      const text::TokenId left = find(pending.left, pending.left_hash),
                          right = find(pending.right, pending.right_hash);
      merges_.add(left, right, {rank_, find(pending.joined, pending.joined_hash)});
      ++rank_;
    }
    pending_count_ = 0;
  }

  text::TokenId find(std::string_view token, uint32_t hash) const {
    const text::TokenId id = vocabulary_.find(token, hash);
    if (id == kNoToken) {
      list_.fail(fmt::format("entry {} uses '{}', which is not in the vocabulary", rank_,
                             escape_for_terminal(token)));
    }
    return id;
  }

  [[noreturn]] void fail(const std::string& problem) const {
    list_.fail(fmt::format("entry {} {}", rank_ + pending_count_, problem));
  }

  const json::Node& list_;
  const Vocabulary& vocabulary_;
  size_t prefix_;
  MergeTable merges_;
  Pending pending_[kBlock];
  size_t pending_count_ = 0;
  uint32_t rank_ = 0;
};

}  // namespace

std::unique_ptr<Bpe> Bpe::from_json(const json::Node& node, bool byte_level) {
  if (const auto dropout = node.find("dropout"); dropout && dropout->number() != 0) {
    dropout->fail("BPE dropout is only for training; set it to null");
  }
  Options options;
  if (const auto unknown = node.find("unk_token")) options.unk_token = unknown->string();
  options.continuing_subword_prefix = node.string_or("continuing_subword_prefix", "");
  options.end_of_word_suffix = node.string_or("end_of_word_suffix", "");
  options.fuse_unk = node.boolean_or("fuse_unk", false);
  options.byte_fallback = node.boolean_or("byte_fallback", false);
  options.ignore_merges = node.boolean_or("ignore_merges", false);
  options.byte_level = byte_level;

  Vocabulary vocabulary = read_vocabulary(node["vocab"]);
  const json::Node list = node["merges"];
  MergeTable merges =
      MergeReader(list, vocabulary, options.continuing_subword_prefix.size()).read();
  return std::make_unique<Bpe>(std::move(vocabulary), std::move(merges), std::move(options));
}

}  // namespace mxgpt::tokenizer
