// Scheduling policy: selects the tokens of the next step and allocates KV cache pages. No clock,
// device or threads, so tests run thousands of steps in milliseconds.
//
// A sequence is waiting or running. A running sequence has a slot in the page tables, and pages.
// Sequences are ordered by rank: arrival minus kPriorityStride per priority level. The oldest
// always advances, so no sequence starves.
// - Decode sequences go first, to keep inter-token latency low.
// - Prompts follow by rank, in chunks, within the rest of max_batched_tokens.
// - Waiting sequences are admitted strictly by rank while tokens, slots and pages for the whole
// prompt are left.
// - A sequence without a page for its next token preempts the lowest rank, which waits again and
// later recomputes what the cache has lost.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "engine/kv_cache.h"

namespace mxgpt::engine {

/// Choices of one prompt. All but the leader wait until its pages can be shared.
struct SequenceGroup {
  bool prompt_computed = false;
};

/// A sequence of tokens. Its owner appends to `tokens`; the scheduler owns the rest.
struct Sequence {
  std::vector<int32_t> tokens;        ///< prompt and output
  int64_t prompt_length = 0;          ///< prompt tokens among them
  std::vector<int32_t> draft_tokens;  ///< proposed next tokens, computed if the budget allows
  bool score_prompt = false;          ///< compute logits of the whole prompt; reuse no cache
  PageKey root_key;                   ///< PageKey::root of the cache salt
  int64_t arrival = 0;                ///< number of the request
  int priority = 0;
  std::shared_ptr<SequenceGroup> sequence_group;  ///< may be null
  bool waits_for_leader = false;                  ///< is not the leader of its group
  /// The next token cannot be sampled yet: the sequence keeps its pages but is not decoded.
  bool blocked = false;

  int64_t computed = 0;                   ///< tokens in the KV cache
  std::optional<int64_t> initial_cached;  ///< tokens found in the prefix cache when first admitted
  int slot = -1;                          ///< row of the page tables; -1 while waiting

 private:
  friend class Scheduler;
  int64_t rank = 0, id = 0;
  bool cacheable = true;                                    // its pages may be reused
  int64_t last_step = -1;                                   // last step that includes it
  std::vector<PageKey> page_keys;                           // keys of its full pages
  std::optional<SequencePages> groups[backend::kKvGroups];  // while running, by KvGroup
};

struct SchedulerLimits {
  int64_t context = 0;
  int64_t max_sequences = 0;       ///< running at once
  int64_t max_batched_tokens = 0;  ///< per step; above max_sequences
  int64_t max_logit_rows = 0;      ///< per step; at least max_sequences
  int64_t window = 0;
  int64_t pages[backend::kKvGroups] = {};  ///< 0: the model has no such layers

  /// Sets the pool sizes: `kv_tokens` for full layers; for sliding layers the need of
  /// `max_sequences`, plus one eighth of the full pool for cached prefixes.
  void set_pages(const bool (&has_group)[backend::kKvGroups], int64_t kv_tokens);
};

/// Tokens [computed, computed + num_tokens) of a sequence; the last num_drafts are drafts.
struct ScheduledChunk {
  Sequence* sequence = nullptr;
  int64_t num_tokens = 0;
  int64_t num_drafts = 0;
  int64_t logit_rows = 0;  ///< logits of so many last tokens
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  /// Adds a waiting sequence. Its address must stay valid until it is removed.
  void add(Sequence& sequence);
  /// Removes a sequence in any state and releases its pages.
  void remove(Sequence& sequence);

  /// The chunks of the next step. Empty only if there are no sequences, or some are blocked.
  /// Advance or remove each sequence before the next call.
  std::span<const ScheduledChunk> schedule();
  /// Records that the sequence is computed up to `end` tokens, without rejected drafts.
  void advance(Sequence& sequence, int64_t end);
  /// Replaces the limits, with the same context, and all pages. Every sequence waits and is
  /// recomputed.
  void reset(const SchedulerLimits& limits);
  /// Makes the pages of the sequence not reusable.
  void exclude_from_prefix_cache(Sequence& sequence);

  /// The page table of a group: [max_sequences, stride], by slot.
  backend::PageTable table(backend::KvGroup group) const;
  const PagePool& pool(backend::KvGroup group) const { return pools_[static_cast<int>(group)]; }
  const SchedulerLimits& limits() const { return limits_; }
  std::span<Sequence* const> running() const { return running_; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t preemptions() const { return preemptions_; }

 private:
  struct ByRank {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return a->rank != b->rank ? a->rank < b->rank : a->id < b->id;
    }
  };

  /// Creates pools, tables and slots from limits_.
  void init_pools();
  void schedule_prefill(Sequence& sequence);
  void schedule_drafts(ScheduledChunk& chunk);
  /// Adds tokens to the step.
  void add_chunk(Sequence& sequence, int64_t num_tokens);
  /// Assigns a slot and the cached prefix to a waiting sequence. Returns false, without effect, if
  /// there are too few pages.
  bool admit(Sequence& sequence);
  /// Allocates pages for positions below `end` if enough are free.
  bool reserve(Sequence& sequence, int64_t end);
  /// Like reserve(), but preempts lower ranks that are not part of the step.
  bool preempt_until_free(Sequence& sequence, int64_t end);
  /// Frees the slot and pages of a running sequence.
  void release_running(Sequence& sequence);
  void attach_cached_prefix(Sequence& sequence);
  /// Releases all pages. The last, partly filled page stays reusable too.
  void release_pages(Sequence& sequence);
  /// Pages to allocate until all tokens and one more are computed.
  int64_t pages_still_needed(const Sequence& sequence, int group) const;
  /// Computes and returns the keys of the first `pages` full pages.
  std::span<const PageKey> ensure_page_keys(Sequence& sequence, int64_t pages);
  /// The key of the page after `pages` full ones, filled with `tokens` tokens.
  PageKey partial_page_key(Sequence& sequence, int64_t pages, int64_t tokens);
  /// Protects the pages of sliding layers that a sequence cut at `end` needs to continue.
  void protect_boundary(Sequence& sequence, int64_t end);

  SchedulerLimits limits_;
  std::vector<PagePool> pools_;               // by KvGroup
  std::vector<std::vector<int32_t>> tables_;  // by KvGroup
  std::vector<int> free_slots_;               // unused
  std::set<Sequence*, ByRank> waiting_;
  std::vector<Sequence*> running_;  // by rank
  std::vector<ScheduledChunk> chunks_;
  int64_t tokens_left_ = 0;       // token budget left in this step
  int64_t spare_logit_rows_ = 0;  // logit rows left, beyond one per running sequence
  int64_t step_ = 0, next_id_ = 0, preemptions_ = 0;
};

}  // namespace mxgpt::engine
