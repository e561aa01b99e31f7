// Who computes what in the next step. A pure policy with the KV pages it hands out: no clock, no
// device, no thread, so that tests run thousands of steps in milliseconds.
//
// A sequence waits or runs. A running one has a row of the page tables and pages. The order of all
// is their rank: by arrival, higher priority earlier by kPriorityStep requests a level. Hence the
// oldest always advances, and everything ends that has an end.
//  - Running sequences with one token to compute come first: someone reads them.
//  - Then prompts, in chunks, by rank, with what the step has left of max_rows.
//  - Then waiting sequences are admitted by rank, none past another, while rows, places in the
//    tables, and pages for all of a prompt are left.
//  - One that finds no page for its next token takes those of the lowest in rank, which waits again
//    and later recomputes what the cache has lost by then.
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

/// Answers to one prompt: all but the first wait until its pages can be shared.
struct SequenceGroup {
  bool prompt_computed = false;
};

/// A text under way. Its owner appends to `tokens`; everything else is the scheduler's.
struct Sequence {
  std::vector<int32_t> tokens;  ///< of prompt and answer; more than `computed` in a scheduled one
  int64_t prompt_length = 0;    ///< of these, the prompt's
  std::vector<int32_t> draft_tokens;  ///< guesses at what follows, to be computed if there is room
  bool score_prompt = false;          ///< logits are wanted of all of the prompt; nothing is reused
  PageKey root_key;                   ///< PageKey::root of its salt
  int64_t arrival = 0;                ///< number of its request
  int priority = 0;
  std::shared_ptr<SequenceGroup> sequence_group;  ///< may be null
  bool waits_for_leader = false;                  ///< is not the first of them
  /// Its next token cannot be sampled yet: it is not decoded, but keeps its pages.
  bool blocked = false;

  int64_t computed = 0;                   ///< tokens whose keys and values are in the cache
  std::optional<int64_t> initial_cached;  ///< tokens found in the cache when first admitted
  int slot = -1;                          ///< row of the page tables; -1: it waits

 private:
  friend class Scheduler;
  int64_t rank = 0, id = 0;
  bool cacheable = true;                                    // what it computed may be reused
  int64_t last_step = -1;                                   // the last it is part of
  std::vector<PageKey> page_keys;                           // of its full pages
  std::optional<SequencePages> groups[backend::kKvGroups];  // of a running one, those the model has
};

struct SchedulerLimits {
  int64_t context = 0;
  int64_t max_sequences = 0;       ///< running
  int64_t max_batched_tokens = 0;  ///< of a step; more than max_sequences
  int64_t max_logit_rows = 0;      ///< of a step; at least max_sequences
  int64_t window = 0;
  int64_t pages[backend::kKvGroups] = {};  ///< 0: the model has no such layers

  /// Limits whose pools hold `kv_tokens` of full layers, and of sliding layers what
  /// `max_sequences` need besides an eighth of that, for prefixes: all their boundaries.
  void set_pages(const bool (&has_group)[backend::kKvGroups], int64_t kv_tokens);
};

/// Rows [computed, computed + rows) of a sequence, its first drafts the last of them.
struct ScheduledChunk {
  Sequence* sequence = nullptr;
  int64_t num_tokens = 0;
  int64_t num_drafts = 0;
  int64_t logit_rows = 0;  ///< of its last rows
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  /// The sequence waits. It outlives its removal, and stays where it is.
  void add(Sequence& sequence);
  /// Forgets it, in whatever state, and gives back its pages at once.
  void remove(Sequence& sequence);

  /// The next step: empty only if there are no sequences, or some are blocked. Every slice is to be
  /// advanced, or its sequence removed, before the next plan.
  std::span<const ScheduledChunk> schedule();
  /// The step computed the sequence up to `end` tokens; drafts that turned out wrong do not count.
  void advance(Sequence& sequence, int64_t end);
  /// Other limits, of the same context, and none of the pages that were: every sequence waits, to
  /// be computed anew.
  void reset(const SchedulerLimits& limits);
  /// What the sequence computed is not to be reused.
  void exclude_from_prefix_cache(Sequence& sequence);

  /// [max_sequences, stride] of a group, rows by slot.
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

  /// Pools, tables and slots, by limits_.
  void init_pools();
  void schedule_prefill(Sequence& sequence);
  void schedule_drafts(ScheduledChunk& chunk);
  /// Adds rows to the step.
  void add_chunk(Sequence& sequence, int64_t num_tokens);
  /// Gives the waiting sequence a row of the tables and what the cache has of it; false, and
  /// nothing changed, if the pages do not suffice.
  bool admit(Sequence& sequence);
  /// Pages for positions up to `end` - 1, if they are free.
  bool reserve(Sequence& sequence, int64_t end);
  /// The same, if need be from those lower in rank that are not part of the step.
  bool preempt_until_free(Sequence& sequence, int64_t end);
  /// Takes row and pages from a running sequence.
  void release_running(Sequence& sequence);
  void attach_cached_prefix(Sequence& sequence);
  /// It waits again. The page that it leaves partly filled can be found too.
  void release_pages(Sequence& sequence);
  /// Pages that it is going to take until all its tokens and one more are computed.
  int64_t pages_still_needed(const Sequence& sequence, int group) const;
  /// Has its first `pages` keys at hand.
  std::span<const PageKey> ensure_page_keys(Sequence& sequence, int64_t pages);
  /// Of the page behind `pages` full ones that has `tokens`.
  PageKey partial_page_key(Sequence& sequence, int64_t pages, int64_t tokens);
  /// Values the sliding layers' pages that a text cut at `end` needs to go on.
  void protect_boundary(Sequence& sequence, int64_t end);

  SchedulerLimits limits_;
  std::vector<PagePool> pools_;               // by KvGroup
  std::vector<std::vector<int32_t>> tables_;  // by KvGroup
  std::vector<int> free_slots_;               // unused
  std::set<Sequence*, ByRank> waiting_;
  std::vector<Sequence*> running_;  // by rank
  std::vector<ScheduledChunk> chunks_;
  int64_t tokens_left_ = 0;       // of the step being planned
  int64_t spare_logit_rows_ = 0;  // of it, beyond one for each running sequence
  int64_t step_ = 0, next_id_ = 0, preemptions_ = 0;
};

}  // namespace mxgpt::engine
