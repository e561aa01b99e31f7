#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "engine/request.h"

namespace mxgpt::engine {

namespace {

/// Distance of prompt positions whose sliding-window pages are protected. An edit recomputes at
/// most this many tokens before it.
constexpr int64_t kProtectedStride = 1024;

int64_t known_tokens(const Sequence& sequence) {
  return static_cast<int64_t>(sequence.tokens.size());
}

}  // namespace

void SchedulerLimits::set_pages(const bool (&has_group)[backend::kKvGroups], int64_t kv_tokens) {
  const int64_t all = std::max(pages_for(kv_tokens), pages_for(context));
  constexpr auto full = static_cast<int>(backend::KvGroup::full),
                 sliding = static_cast<int>(backend::KvGroup::window);
  pages[full] = has_group[full] ? all : 0;
  pages[sliding] = 0;
  if (has_group[sliding]) {
    // A window, and the tokens of a step, may start and end inside a page.
    const int64_t active_pages =
        max_sequences * (pages_for(window) + 3) + pages_for(max_batched_tokens);
    pages[sliding] = std::max(active_pages + all / 8,
                              max_pages_per_sequence(context, window, max_batched_tokens));
  }
}

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits) {
  init_pools();
}

void Scheduler::reset(const SchedulerLimits& limits) {
  MXGPT_CHECK(limits.context == limits_.context, "{} tokens, not {}", limits.context,
              limits_.context);
  for (Sequence* s : running_) {
    for (std::optional<SequencePages>& group : s->groups) group.reset();
    s->slot = -1;
    s->computed = 0;
    waiting_.insert(s);
    ++preemptions_;
  }
  running_.clear();
  chunks_.clear();
  pools_.clear();
  tables_.clear();
  free_slots_.clear();
  limits_ = limits;
  init_pools();
}

void Scheduler::init_pools() {
  const SchedulerLimits& limits = limits_;
  MXGPT_CHECK(limits.max_batched_tokens > limits.max_sequences &&
                  limits.max_logit_rows >= limits.max_sequences && limits.max_sequences > 0,
              "{} rows, {} logit rows, {} sequences", limits.max_batched_tokens,
              limits.max_logit_rows, limits.max_sequences);
  for (int g = 0; g < backend::kKvGroups; ++g) {
    const int64_t window =
        static_cast<backend::KvGroup>(g) == backend::KvGroup::window ? limits.window : 0;
    MXGPT_CHECK(limits.pages[g] == 0 ||
                    limits.pages[g] >=
                        max_pages_per_sequence(limits.context, window, limits.max_batched_tokens),
                "{} pages do not hold one sequence", limits.pages[g]);
    pools_.emplace_back(limits.pages[g]);
    tables_.emplace_back(limits.pages[g] ? limits.max_sequences * pages_for(limits.context) : 0);
  }
  for (auto slot = static_cast<int>(limits.max_sequences); slot-- > 0;) free_slots_.push_back(slot);
}

backend::PageTable Scheduler::table(backend::KvGroup group) const {
  return {tables_[static_cast<int>(group)].data(), pages_for(limits_.context)};
}

void Scheduler::add(Sequence& sequence) {
  MXGPT_CHECK(!sequence.tokens.empty() && known_tokens(sequence) <= limits_.context, "{} tokens",
              sequence.tokens.size());
  sequence.rank = sequence.arrival - sequence.priority * kPriorityStride;
  sequence.id = next_id_++;
  waiting_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.sequence_group && !sequence.waits_for_leader)
    sequence.sequence_group->prompt_computed = true;
  if (sequence.slot < 0) {
    waiting_.erase(&sequence);
    return;
  }
  protect_boundary(sequence, sequence.computed);
  release_running(sequence);
}

void Scheduler::release_running(Sequence& sequence) {
  free_slots_.push_back(sequence.slot);
  release_pages(sequence);
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
}

std::span<const ScheduledChunk> Scheduler::schedule() {
  chunks_.clear();
  ++step_;
  tokens_left_ = limits_.max_batched_tokens;
  spare_logit_rows_ = limits_.max_logit_rows - limits_.max_sequences;

  const auto is_decode = [](const Sequence& s) { return known_tokens(s) - s.computed == 1; };
  // Reserve a page for the next token of the oldest sequence first.
  if (!running_.empty()) preempt_until_free(*running_[0], running_[0]->computed + 1);
  // By index: preemption removes sequences from the end.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    if (is_decode(s) && !s.blocked && preempt_until_free(s, s.computed + 1)) add_chunk(s, 1);
  }
  for (size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
    if (!is_decode(*running_[i])) schedule_prefill(*running_[i]);
  }
  for (auto next = waiting_.begin();
       next != waiting_.end() && tokens_left_ > 0 && !free_slots_.empty();) {
    Sequence& s = **next;
    if (s.waits_for_leader && !s.sequence_group->prompt_computed) {
      ++next;
      continue;
    }
    if (!admit(s)) break;
    next = waiting_.erase(next);
    running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, ByRank()), &s);
    schedule_prefill(s);
  }
  for (ScheduledChunk& chunk : chunks_) schedule_drafts(chunk);
  const bool any_blocked =
      std::any_of(running_.begin(), running_.end(), [](const Sequence* s) { return s->blocked; });
  MXGPT_CHECK(!chunks_.empty() || any_blocked || (running_.empty() && waiting_.empty()),
              "{} running and {} waiting sequences, none can advance", running_.size(),
              waiting_.size());
  return chunks_;
}

void Scheduler::schedule_prefill(Sequence& s) {
  const bool scored = s.score_prompt && s.computed < s.prompt_length;
  int64_t num_tokens = std::min(tokens_left_, known_tokens(s) - s.computed);
  if (scored) num_tokens = std::min(num_tokens, spare_logit_rows_ + 1);
  for (int g = 0; g < backend::kKvGroups; ++g) {
    if (!s.groups[g]) continue;
    const int64_t pages = pages_for(s.computed) + pools_[g].free();
    num_tokens =
        std::min(num_tokens, std::max<int64_t>(1, pages * backend::kPageTokens - s.computed));
  }
  if (!preempt_until_free(s, s.computed + num_tokens)) return;
  add_chunk(s, num_tokens);
  if (scored) {
    chunks_.back().logit_rows = num_tokens;
    spare_logit_rows_ -= num_tokens - 1;
  }
}

void Scheduler::add_chunk(Sequence& s, int64_t num_tokens) {
  s.last_step = step_;
  tokens_left_ -= num_tokens;
  chunks_.push_back({.sequence = &s,
                     .num_tokens = num_tokens,
                     .logit_rows = s.computed + num_tokens == known_tokens(s) ? 1 : 0});
}

void Scheduler::schedule_drafts(ScheduledChunk& chunk) {
  Sequence& s = *chunk.sequence;
  if (chunk.num_tokens != 1 || chunk.logit_rows != 1 || s.draft_tokens.empty()) return;
  const int64_t count = std::min({static_cast<int64_t>(s.draft_tokens.size()), tokens_left_,
                                  spare_logit_rows_, limits_.context - known_tokens(s)});
  if (count <= 0 || !reserve(s, known_tokens(s) + count)) return;
  chunk.num_tokens += count;
  chunk.num_drafts = count;
  chunk.logit_rows += count;
  tokens_left_ -= count;
  spare_logit_rows_ -= count;
}

bool Scheduler::reserve(Sequence& s, int64_t end) {
  return std::all_of(std::begin(s.groups), std::end(s.groups),
                     [&](auto& group) { return !group || group->reserve(end); });
}

bool Scheduler::preempt_until_free(Sequence& s, int64_t end) {
  while (!reserve(s, end)) {
    const auto victim = std::find_if(
        running_.rbegin(), running_.rend(),
        [&](const Sequence* other) { return other == &s || other->last_step != step_; });
    if (*victim == &s) return false;  // all lower ranks are part of the step
    Sequence& preempted = **victim;
    release_running(preempted);
    waiting_.insert(&preempted);
    ++preemptions_;
  }
  return true;
}

bool Scheduler::admit(Sequence& s) {
  s.slot = free_slots_.back();
  for (int g = 0; g < backend::kKvGroups; ++g) {
    if (pools_[g].total() == 0) continue;
    const int64_t stride = pages_for(limits_.context);
    s.groups[g].emplace(
        pools_[g],
        static_cast<backend::KvGroup>(g) == backend::KvGroup::window ? limits_.window : 0,
        std::span(tables_[g]).subspan(s.slot * stride, stride));
  }
  if (!s.score_prompt || s.computed >= s.prompt_length) attach_cached_prefix(s);
  for (int g = 0; g < backend::kKvGroups; ++g) {
    if (!s.groups[g] || running_.empty()) continue;  // a single sequence always fits
    // Pages that running sequences need up to their next token, and one more page each.
    int64_t reserved = static_cast<int64_t>(running_.size());
    for (const Sequence* other : running_) reserved += pages_still_needed(*other, g);
    if (pools_[g].free() - reserved >= pages_still_needed(s, g)) continue;
    release_pages(s);
    return false;
  }
  free_slots_.pop_back();
  if (!s.initial_cached) s.initial_cached = s.computed;
  return true;
}

void Scheduler::attach_cached_prefix(Sequence& s) {
  // At least one token is computed, for its logits.
  std::span<const PageKey> found =
      ensure_page_keys(s, (known_tokens(s) - 1) / backend::kPageTokens);
  std::optional<SequencePages>& full = s.groups[static_cast<int>(backend::KvGroup::full)];
  std::optional<SequencePages>& sliding = s.groups[static_cast<int>(backend::KvGroup::window)];
  if (full) {
    const PagePool& pool = pools_[static_cast<int>(backend::KvGroup::full)];
    const auto missing = std::find_if(found.begin(), found.end(),
                                      [&](const PageKey& key) { return !pool.find(key); });
    found = found.first(missing - found.begin());
  }
  // Shorten the prefix until the window before its end is cached too.
  while (sliding && !sliding->attach_cached(found)) found = found.first(found.size() - 1);
  if (full) full->attach_cached(found);
  const auto pages = static_cast<int64_t>(found.size());
  s.computed = pages * backend::kPageTokens;
  const int64_t max_partial =
      std::min<int64_t>(backend::kPageTokens - 1, known_tokens(s) - 1 - s.computed);
  for (int64_t tokens = max_partial; tokens > 0; --tokens) {
    const PageKey key = partial_page_key(s, pages, tokens);
    const auto missing = [&](int g) { return s.groups[g] && !pools_[g].find(key); };
    if (missing(0) || missing(1)) continue;
    for (std::optional<SequencePages>& group : s.groups) {
      if (group) group->attach_partial(key);
    }
    s.computed += tokens;
    break;
  }
}

void Scheduler::release_pages(Sequence& s) {
  const int64_t pages = s.computed / backend::kPageTokens,
                tokens = s.computed % backend::kPageTokens;
  const bool partial = tokens > 0 && s.cacheable;
  const PageKey key = partial ? partial_page_key(s, pages, tokens) : PageKey{};
  for (std::optional<SequencePages>& group : s.groups) {
    if (group && partial) group->set_key(pages, key);
    if (group) group->trim(0);
    group.reset();
  }
  s.slot = -1;
  s.computed = 0;
}

PageKey Scheduler::partial_page_key(Sequence& s, int64_t pages, int64_t tokens) {
  const PageKey& parent = pages ? ensure_page_keys(s, pages).back() : s.root_key;
  return parent.next(std::span(s.tokens).subspan(pages * backend::kPageTokens, tokens));
}

int64_t Scheduler::pages_still_needed(const Sequence& s, int g) const {
  const int64_t window =
      static_cast<backend::KvGroup>(g) == backend::KvGroup::window ? limits_.window : 0;
  const int64_t rows = std::min(limits_.max_batched_tokens, known_tokens(s) + 1 - s.computed);
  const int64_t max_pages = max_pages_per_sequence(known_tokens(s) + 1, window, rows);
  return std::max<int64_t>(0, max_pages - s.groups[g]->num_pages());
}

void Scheduler::advance(Sequence& s, int64_t end) {
  MXGPT_CHECK(s.slot >= 0 && end > s.computed && end <= known_tokens(s), "{} of {} tokens, to {}",
              s.computed, known_tokens(s), end);
  const int64_t begin = s.computed;
  const std::span<const PageKey> full = ensure_page_keys(s, end / backend::kPageTokens);
  for (auto i = begin / backend::kPageTokens; i < end / backend::kPageTokens; ++i) {
    for (std::optional<SequencePages>& group : s.groups) {
      if (group) group->set_key(i, full[i]);
    }
  }
  s.computed = end;
  for (int64_t at = (begin / kProtectedStride + 1) * kProtectedStride;
       at <= std::min(end, s.prompt_length); at += kProtectedStride) {
    protect_boundary(s, at);
  }
  if (begin < s.prompt_length && end >= s.prompt_length) {
    protect_boundary(s, s.prompt_length);
    if (s.sequence_group && !s.waits_for_leader) s.sequence_group->prompt_computed = true;
  }
  for (std::optional<SequencePages>& group : s.groups) {
    if (group) group->trim(end);
  }
}

void Scheduler::protect_boundary(Sequence& s, int64_t end) {
  const std::optional<SequencePages>& sliding =
      s.groups[static_cast<int>(backend::KvGroup::window)];
  if (!sliding) return;
  const int64_t pages = end / backend::kPageTokens;
  const std::span<const PageKey> full = ensure_page_keys(s, pages);
  for (int64_t i = sliding->first_visible_page(pages * backend::kPageTokens); i < pages; ++i)
    pools_[static_cast<int>(backend::KvGroup::window)].protect(full[i]);
}

void Scheduler::exclude_from_prefix_cache(Sequence& s) {
  s.cacheable = false;
  for (std::optional<SequencePages>& group : s.groups) {
    if (group) group->clear_keys();
  }
}

std::span<const PageKey> Scheduler::ensure_page_keys(Sequence& s, int64_t pages) {
  for (auto have = static_cast<int64_t>(s.page_keys.size()); have < pages; ++have) {
    const PageKey& parent = have ? s.page_keys.back() : s.root_key;
    s.page_keys.push_back(parent.next(
        std::span(s.tokens).subspan(have * backend::kPageTokens, backend::kPageTokens)));
  }
  return std::span(s.page_keys).first(pages);
}

}  // namespace mxgpt::engine
