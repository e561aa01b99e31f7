#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "engine/request.h"

namespace mxgpt {

namespace {

/// Where sliding layers' pages of a prompt are kept longest, besides its end: an edit further back
/// recomputes at most this many tokens before it.
constexpr int64_t kBoundary = 1024;

int64_t known(const Sequence& sequence) {
  return static_cast<int64_t>(sequence.tokens.size());
}

}  // namespace

void SchedulerLimits::set_pages(const bool (&has_group)[kKvGroups], int64_t kv_tokens) {
  const int64_t all = std::max(pages_for(kv_tokens), pages_for(context));
  constexpr auto full = static_cast<int>(KvGroup::full),
                 sliding = static_cast<int>(KvGroup::window);
  pages[full] = has_group[full] ? all : 0;
  pages[sliding] = 0;
  if (has_group[sliding]) {
    // What a window holds may begin and end inside a page, and so may a step's rows.
    const int64_t in_work = max_sequences * (pages_for(window) + 3) + pages_for(max_rows);
    pages[sliding] = std::max(in_work + all / 8, pages_needed(context, window, max_rows));
  }
}

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits) {
  lay_out();
}

void Scheduler::restart(const SchedulerLimits& limits) {
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
  slices_.clear();
  pools_.clear();
  tables_.clear();
  slots_.clear();
  limits_ = limits;
  lay_out();
}

void Scheduler::lay_out() {
  const SchedulerLimits& limits = limits_;
  MXGPT_CHECK(limits.max_rows > limits.max_sequences &&
                  limits.max_logit_rows >= limits.max_sequences && limits.max_sequences > 0,
              "{} rows, {} logit rows, {} sequences", limits.max_rows, limits.max_logit_rows,
              limits.max_sequences);
  for (int g = 0; g < kKvGroups; ++g) {
    const int64_t window = static_cast<KvGroup>(g) == KvGroup::window ? limits.window : 0;
    MXGPT_CHECK(limits.pages[g] == 0 ||
                    limits.pages[g] >= pages_needed(limits.context, window, limits.max_rows),
                "{} pages do not hold one sequence", limits.pages[g]);
    pools_.emplace_back(limits.pages[g]);
    tables_.emplace_back(limits.pages[g] ? limits.max_sequences * pages_for(limits.context) : 0);
  }
  for (auto slot = static_cast<int>(limits.max_sequences); slot-- > 0;) slots_.push_back(slot);
}

PageTable Scheduler::table(KvGroup group) const {
  return {tables_[static_cast<int>(group)].data(), pages_for(limits_.context)};
}

void Scheduler::add(Sequence& sequence) {
  MXGPT_CHECK(!sequence.tokens.empty() && known(sequence) <= limits_.context, "{} tokens",
              sequence.tokens.size());
  sequence.rank = sequence.arrival - sequence.priority * kPriorityStep;
  sequence.id = next_id_++;
  waiting_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.siblings && !sequence.follows) sequence.siblings->prompt_computed = true;
  if (sequence.slot < 0) {
    waiting_.erase(&sequence);
    return;
  }
  value_boundary(sequence, sequence.computed);
  stop(sequence);
}

void Scheduler::stop(Sequence& sequence) {
  slots_.push_back(sequence.slot);
  give_back_pages(sequence);
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
}

std::span<const Slice> Scheduler::plan() {
  slices_.clear();
  ++step_;
  rows_left_ = limits_.max_rows;
  spare_logit_rows_ = limits_.max_logit_rows - limits_.max_sequences;

  const auto one_left = [](const Sequence& s) { return known(s) - s.computed == 1; };
  // Whatever the others take below, a page for the next token of the oldest is its own.
  if (!running_.empty()) make_room(*running_[0], running_[0]->computed + 1);
  // By index: whoever makes room takes sequences off the end.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    if (one_left(s) && make_room(s, s.computed + 1)) add_slice(s, 1);
  }
  for (size_t i = 0; i < running_.size() && rows_left_ > 0; ++i) {
    if (!one_left(*running_[i])) plan_prompt(*running_[i]);
  }
  for (auto next = waiting_.begin(); next != waiting_.end() && rows_left_ > 0 && !slots_.empty();) {
    Sequence& s = **next;
    if (s.follows && !s.siblings->prompt_computed) {
      ++next;
      continue;
    }
    if (!admit(s)) break;
    next = waiting_.erase(next);
    running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, ByRank()), &s);
    plan_prompt(s);
  }
  for (Slice& slice : slices_) plan_drafts(slice);
  MXGPT_CHECK(!slices_.empty() || (running_.empty() && waiting_.empty()),
              "{} sequences run and {} wait, and none can go on", running_.size(), waiting_.size());
  return slices_;
}

void Scheduler::plan_prompt(Sequence& s) {
  const bool scored = s.score_prompt && s.computed < s.prompt;
  int64_t rows = std::min(rows_left_, known(s) - s.computed);
  if (scored) rows = std::min(rows, spare_logit_rows_ + 1);
  for (int g = 0; g < kKvGroups; ++g) {
    if (!s.groups[g]) continue;
    const int64_t pages = pages_for(s.computed) + pools_[g].free();
    rows = std::min(rows, std::max<int64_t>(1, pages * kPageTokens - s.computed));
  }
  if (!make_room(s, s.computed + rows)) return;
  add_slice(s, rows);
  if (scored) {
    slices_.back().logit_rows = rows;
    spare_logit_rows_ -= rows - 1;
  }
}

void Scheduler::add_slice(Sequence& s, int64_t rows) {
  s.step = step_;
  rows_left_ -= rows;
  slices_.push_back(
      {.sequence = &s, .rows = rows, .logit_rows = s.computed + rows == known(s) ? 1 : 0});
}

void Scheduler::plan_drafts(Slice& slice) {
  Sequence& s = *slice.sequence;
  if (slice.rows != 1 || slice.logit_rows != 1 || s.drafts.empty()) return;
  const int64_t count = std::min({static_cast<int64_t>(s.drafts.size()), rows_left_,
                                  spare_logit_rows_, limits_.context - known(s)});
  if (count <= 0 || !reserve(s, known(s) + count)) return;
  slice.rows += count;
  slice.drafts = count;
  slice.logit_rows += count;
  rows_left_ -= count;
  spare_logit_rows_ -= count;
}

bool Scheduler::reserve(Sequence& s, int64_t end) {
  return std::all_of(std::begin(s.groups), std::end(s.groups),
                     [&](auto& group) { return !group || group->reserve(end); });
}

bool Scheduler::make_room(Sequence& s, int64_t end) {
  while (!reserve(s, end)) {
    const auto victim =
        std::find_if(running_.rbegin(), running_.rend(),
                     [&](const Sequence* other) { return other == &s || other->step != step_; });
    if (*victim == &s) return false;  // those lower in rank are all part of the step, and end first
    Sequence& lost = **victim;
    stop(lost);
    waiting_.insert(&lost);
    ++preemptions_;
  }
  return true;
}

bool Scheduler::admit(Sequence& s) {
  s.slot = slots_.back();
  for (int g = 0; g < kKvGroups; ++g) {
    if (pools_[g].total() == 0) continue;
    const int64_t stride = pages_for(limits_.context);
    s.groups[g].emplace(pools_[g], static_cast<KvGroup>(g) == KvGroup::window ? limits_.window : 0,
                        std::span(tables_[g]).subspan(s.slot * stride, stride));
  }
  if (!s.score_prompt || s.computed >= s.prompt) adopt_cached(s);
  for (int g = 0; g < kKvGroups; ++g) {
    if (!s.groups[g] || running_.empty()) continue;  // alone, any sequence finds room
    // What those that run are going to take until they have their next token, and a page for each
    // to go on with.
    int64_t promised = static_cast<int64_t>(running_.size());
    for (const Sequence* other : running_) promised += growth(*other, g);
    if (pools_[g].free() - promised >= growth(s, g)) continue;
    give_back_pages(s);
    return false;
  }
  slots_.pop_back();
  if (!s.first_cached) s.first_cached = s.computed;
  return true;
}

void Scheduler::adopt_cached(Sequence& s) {
  // One token at least is computed, for its logits.
  std::span<const PageKey> found = keys(s, (known(s) - 1) / kPageTokens);
  std::optional<SequencePages>& full = s.groups[static_cast<int>(KvGroup::full)];
  std::optional<SequencePages>& sliding = s.groups[static_cast<int>(KvGroup::window)];
  if (full) {
    const PagePool& pool = pools_[static_cast<int>(KvGroup::full)];
    const auto missing = std::find_if(found.begin(), found.end(),
                                      [&](const PageKey& key) { return !pool.find(key); });
    found = found.first(missing - found.begin());
  }
  // Shorter, until the window before the cut is there too.
  while (sliding && !sliding->adopt(found)) found = found.first(found.size() - 1);
  if (full) full->adopt(found);
  const auto pages = static_cast<int64_t>(found.size());
  s.computed = pages * kPageTokens;
  const int64_t most = std::min<int64_t>(kPageTokens - 1, known(s) - 1 - s.computed);
  for (int64_t tokens = most; tokens > 0; --tokens) {
    const PageKey key = key_after(s, pages, tokens);
    const auto missing = [&](int g) { return s.groups[g] && !pools_[g].find(key); };
    if (missing(0) || missing(1)) continue;
    for (std::optional<SequencePages>& group : s.groups) {
      if (group) group->adopt_partial(key);
    }
    s.computed += tokens;
    break;
  }
}

void Scheduler::give_back_pages(Sequence& s) {
  const int64_t pages = s.computed / kPageTokens, tokens = s.computed % kPageTokens;
  const bool partial = tokens > 0 && s.trusted;
  const PageKey key = partial ? key_after(s, pages, tokens) : PageKey{};
  for (std::optional<SequencePages>& group : s.groups) {
    if (group && partial) group->set_key(pages, key);
    if (group) group->keep(0);
    group.reset();
  }
  s.slot = -1;
  s.computed = 0;
}

PageKey Scheduler::key_after(Sequence& s, int64_t pages, int64_t tokens) {
  const PageKey& before = pages ? keys(s, pages).back() : s.root;
  return before.next(std::span(s.tokens).subspan(pages * kPageTokens, tokens));
}

int64_t Scheduler::growth(const Sequence& s, int g) const {
  const int64_t window = static_cast<KvGroup>(g) == KvGroup::window ? limits_.window : 0;
  const int64_t rows = std::min(limits_.max_rows, known(s) + 1 - s.computed);
  const int64_t most = pages_needed(known(s) + 1, window, rows);
  return std::max<int64_t>(0, most - s.groups[g]->held());
}

void Scheduler::advance(Sequence& s, int64_t end) {
  MXGPT_CHECK(s.slot >= 0 && end > s.computed && end <= known(s), "{} of {} tokens, to {}",
              s.computed, known(s), end);
  const int64_t begin = s.computed;
  const std::span<const PageKey> full = keys(s, end / kPageTokens);
  for (auto i = begin / kPageTokens; i < end / kPageTokens; ++i) {
    for (std::optional<SequencePages>& group : s.groups) {
      if (group) group->set_key(i, full[i]);
    }
  }
  s.computed = end;
  for (int64_t at = (begin / kBoundary + 1) * kBoundary; at <= std::min(end, s.prompt);
       at += kBoundary) {
    value_boundary(s, at);
  }
  if (begin < s.prompt && end >= s.prompt) {
    value_boundary(s, s.prompt);
    if (s.siblings && !s.follows) s.siblings->prompt_computed = true;
  }
  for (std::optional<SequencePages>& group : s.groups) {
    if (group) group->keep(end);
  }
}

void Scheduler::value_boundary(Sequence& s, int64_t end) {
  const std::optional<SequencePages>& sliding = s.groups[static_cast<int>(KvGroup::window)];
  if (!sliding) return;
  const int64_t pages = end / kPageTokens;
  const std::span<const PageKey> full = keys(s, pages);
  for (int64_t i = sliding->first_visible_page(pages * kPageTokens); i < pages; ++i)
    pools_[static_cast<int>(KvGroup::window)].value(full[i]);
}

void Scheduler::distrust(Sequence& s) {
  s.trusted = false;
  for (std::optional<SequencePages>& group : s.groups) {
    if (group) group->clear_keys();
  }
}

std::span<const PageKey> Scheduler::keys(Sequence& s, int64_t pages) {
  for (auto have = static_cast<int64_t>(s.keys.size()); have < pages; ++have) {
    const PageKey& before = have ? s.keys.back() : s.root;
    s.keys.push_back(before.next(std::span(s.tokens).subspan(have * kPageTokens, kPageTokens)));
  }
  return std::span(s.keys).first(pages);
}

}  // namespace mxgpt
