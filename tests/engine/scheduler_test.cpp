#include "engine/scheduler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <set>

#include "engine/request.h"

namespace mxgpt::engine {
namespace {

using testing::ElementsAre;

constexpr auto kFull = backend::KvGroup::full, kSliding = backend::KvGroup::window;

SchedulerLimits limits(int64_t context = 512, int64_t sequences = 4, int64_t rows = 64,
                       int64_t kv_tokens = 1024) {
  SchedulerLimits result{.context = context,
                         .max_sequences = sequences,
                         .max_batched_tokens = rows,
                         .max_logit_rows = sequences + 4,
                         .window = 70};
  result.set_pages({true, true}, kv_tokens);
  return result;
}

/// A sequence of `size` tokens; the first `shared` are the same for all sequences.
Sequence make_sequence(int64_t size, int64_t arrival, int priority = 0, int64_t shared = 0) {
  Sequence s;
  for (int64_t i = 0; i < size; ++i)
    s.tokens.push_back(static_cast<int32_t>(i < shared ? i : arrival * 1000 + i));
  s.prompt_length = size;
  s.arrival = arrival;
  s.priority = priority;
  return s;
}

/// Advances the scheduled sequences, and appends a token to each that is fully computed.
void run_step(Scheduler& scheduler, std::span<const ScheduledChunk> chunks) {
  for (const ScheduledChunk& chunk : chunks) {
    Sequence& s = *chunk.sequence;
    scheduler.advance(s, s.computed + chunk.num_tokens - chunk.num_drafts);
    if (s.computed == static_cast<int64_t>(s.tokens.size())) s.tokens.push_back(7);
  }
}

std::vector<int64_t> scheduled_tokens(std::span<const ScheduledChunk> chunks) {
  std::vector<int64_t> result;
  for (const ScheduledChunk& chunk : chunks) result.push_back(chunk.num_tokens);
  return result;
}

std::vector<int64_t> arrivals(std::span<const ScheduledChunk> chunks) {
  std::vector<int64_t> result;
  for (const ScheduledChunk& chunk : chunks) result.push_back(chunk.sequence->arrival);
  return result;
}

TEST(Scheduler, DecodeFirstThenChunkedPrefill) {
  Scheduler scheduler(limits());
  Sequence a = make_sequence(10, 0), b = make_sequence(150, 1), c = make_sequence(20, 2);
  scheduler.add(a);
  EXPECT_THAT(scheduled_tokens(scheduler.schedule()), ElementsAre(10));
  run_step(scheduler, {{ScheduledChunk{.sequence = &a, .num_tokens = 10}}});
  scheduler.add(b);
  scheduler.add(c);
  // 64 tokens per step: one for a, the rest for b; c starts when b leaves some.
  const std::vector<std::vector<int64_t>> expected{{1, 63}, {1, 63}, {1, 24, 20}, {1, 1, 1}};
  for (const std::vector<int64_t>& step : expected) {
    const auto plan = scheduler.schedule();
    EXPECT_EQ(scheduled_tokens(plan), step);
    run_step(scheduler, plan);
  }
  for (Sequence* s : {&a, &b, &c}) scheduler.remove(*s);
  EXPECT_TRUE(scheduler.schedule().empty());
}

TEST(Scheduler, OrderByArrivalAndPriority) {
  const auto order = [](const std::vector<std::pair<int64_t, int>>& arrival_and_priority) {
    Scheduler scheduler(limits(512, 10, 64));
    std::vector<Sequence> all;
    for (const auto& [arrival, priority] : arrival_and_priority)
      all.push_back(make_sequence(2, arrival, priority));
    for (Sequence& s : all) scheduler.add(s);
    return arrivals(scheduler.schedule());
  };
  EXPECT_THAT(order({{0, 0}, {1, 0}, {2, 0}}), ElementsAre(0, 1, 2));
  EXPECT_THAT(order({{0, 0}, {1, 0}, {2, 1}}), ElementsAre(2, 0, 1));
  EXPECT_THAT(order({{0, -1}, {1, 0}, {2, 2}}), ElementsAre(2, 1, 0));
  // A priority level outweighs kPriorityStride requests, so old requests are not starved.
  EXPECT_THAT(order({{0, 0}, {kPriorityStride - 1, 1}, {kPriorityStride + 1, 1}}),
              ElementsAre(kPriorityStride - 1, 0, kPriorityStride + 1));
}

TEST(Scheduler, UrgentRequestsStarveNobody) {
  Scheduler scheduler(limits(512, 1, 64));
  std::list<Sequence> all;
  Sequence patient = make_sequence(2, 0);
  scheduler.add(patient);
  int64_t served = 0;
  for (int64_t i = 1;; ++i) {
    ASSERT_LT(i, 1000);
    scheduler.add(all.emplace_back(make_sequence(2, i, 3)));
    const auto plan = scheduler.schedule();
    if (plan[0].sequence == &patient) break;
    Sequence& done = *plan[0].sequence;
    run_step(scheduler, plan);
    scheduler.remove(done);
    ++served;
  }
  EXPECT_EQ(served, 3 * kPriorityStride - 1);
}

TEST(Scheduler, SecondTurnComputesOnlyItsTail) {
  Scheduler scheduler(limits(4096, 2, 512, 8192));
  Sequence first = make_sequence(2000, 0);
  scheduler.add(first);
  while (first.tokens.size() < 2100) run_step(scheduler, scheduler.schedule());
  scheduler.remove(first);
  for (const int64_t cut : {2099, 2000, 1999, 1030}) {
    Sequence second = make_sequence(0, 1);
    second.tokens.assign(first.tokens.begin(), first.tokens.begin() + cut);
    for (int i = 0; i < 20; ++i) second.tokens.push_back(9000 + i);
    second.prompt_length = cut + 20;
    scheduler.add(second);
    scheduler.schedule();
    // A prefix that ends with the first sequence continues its last page; a shorter one starts at a
    // page boundary.
    EXPECT_EQ(second.computed,
              cut == 2099 ? cut : cut / backend::kPageTokens * backend::kPageTokens);
    EXPECT_EQ(second.initial_cached, second.computed);
    scheduler.remove(second);
  }
}

/// After others evicted all unprotected window pages, those at boundaries remain: the end of a
/// prompt, and every 1,024 tokens of it.
TEST(Scheduler, WindowBoundariesAreEvictedLast) {
  SchedulerLimits tight = limits(4096, 2, 128, 16384);
  tight.pages[static_cast<int>(kSliding)] = 36;
  Scheduler scheduler(tight);
  Sequence first = make_sequence(2500, 0);
  scheduler.add(first);
  while (first.tokens.size() < 2900) run_step(scheduler, scheduler.schedule());
  scheduler.remove(first);
  Sequence other = make_sequence(300, 1);
  scheduler.add(other);
  while (other.tokens.size() < 900) run_step(scheduler, scheduler.schedule());
  scheduler.remove(other);
  const auto reused = [&](int64_t cut) {
    Sequence second = make_sequence(0, 2);
    second.tokens.assign(first.tokens.begin(), first.tokens.begin() + cut);
    second.tokens.push_back(9000);
    second.prompt_length = cut + 1;
    scheduler.add(second);
    scheduler.schedule();
    const int64_t found = second.computed;
    scheduler.remove(second);
    return found;
  };
  EXPECT_EQ(reused(2898), 2880) << "the end of the answer";
  EXPECT_EQ(reused(2500), 2496) << "the end of the prompt";
  EXPECT_EQ(reused(2700), 2496) << "cut in the answer";
  EXPECT_EQ(reused(1500), 1024) << "cut in the prompt";
}

TEST(Scheduler, SaltsAndExcludedSequencesShareNothing) {
  Scheduler scheduler(limits());
  Sequence mine = make_sequence(100, 0);
  mine.root_key = PageKey::root("me");
  scheduler.add(mine);
  run_step(scheduler, scheduler.schedule());
  run_step(scheduler, scheduler.schedule());
  const auto reused = [&](std::string_view salt) {
    Sequence s = make_sequence(100, 0);
    s.root_key = PageKey::root(salt);
    scheduler.add(s);
    scheduler.schedule();
    const int64_t computed = s.computed;
    scheduler.remove(s);
    return computed;
  };
  EXPECT_EQ(reused("you"), 0);
  EXPECT_EQ(reused("me"), 96);
  scheduler.exclude_from_prefix_cache(mine);
  EXPECT_EQ(reused("me"), 0);
}

TEST(Scheduler, GroupComputesItsPromptOnce) {
  Scheduler scheduler(limits(512, 4, 64));
  const auto group = std::make_shared<SequenceGroup>();
  std::vector<Sequence> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(make_sequence(130, 0));
    all[i].sequence_group = group;
    all[i].waits_for_leader = i > 0;
  }
  for (Sequence& s : all) scheduler.add(s);
  Sequence behind = make_sequence(4, 1);
  scheduler.add(behind);
  const std::vector<std::vector<int64_t>> expected{{64}, {64}, {2, 4}, {1, 1, 2, 2}};
  for (const std::vector<int64_t>& step : expected) {
    const auto plan = scheduler.schedule();
    EXPECT_EQ(scheduled_tokens(plan), step)
        << "others wait for the first, but nobody waits for them";
    run_step(scheduler, plan);
  }
  EXPECT_EQ(scheduler.table(kFull).page(all[1].slot, 0), scheduler.table(kFull).page(0, 0));
}

TEST(Scheduler, RemovedLeaderReleasesItsGroup) {
  Scheduler scheduler(limits());
  const auto group = std::make_shared<SequenceGroup>();
  Sequence first = make_sequence(130, 0), second = make_sequence(130, 0);
  first.sequence_group = second.sequence_group = group;
  second.waits_for_leader = true;
  scheduler.add(first);
  scheduler.add(second);
  run_step(scheduler, scheduler.schedule());
  scheduler.remove(first);
  EXPECT_THAT(scheduled_tokens(scheduler.schedule()), ElementsAre(64));
  EXPECT_EQ(second.computed, 64);
}

TEST(Scheduler, LowestRankIsPreempted) {
  // 16 pages: two sequences use eight each, and both need a ninth.
  Scheduler scheduler(limits(512, 2, 512, 512));
  Sequence old = make_sequence(250, 0), young = make_sequence(220, 1);
  scheduler.add(old);
  scheduler.add(young);
  while (old.tokens.size() < 300) run_step(scheduler, scheduler.schedule());
  EXPECT_EQ(scheduler.preemptions(), 1);
  EXPECT_EQ(young.slot, -1);
  EXPECT_EQ(young.computed, 0);
  scheduler.remove(old);
  const auto plan = scheduler.schedule();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].sequence, &young) << "and comes back when there are some";
}

TEST(Scheduler, DraftsUseTheRemainingBudget) {
  Scheduler scheduler(limits(512, 4, 8));
  Sequence a = make_sequence(4, 0), b = make_sequence(40, 1);
  scheduler.add(a);
  run_step(scheduler, scheduler.schedule());
  a.draft_tokens = {1, 2, 3};
  EXPECT_THAT(scheduled_tokens(scheduler.schedule()), ElementsAre(4));
  EXPECT_EQ(scheduler.schedule()[0].num_drafts, 3);
  EXPECT_EQ(scheduler.schedule()[0].logit_rows, 4);
  a.tokens.insert(a.tokens.end(), {1, 2, 9});
  scheduler.advance(a, 7);
  scheduler.add(b);
  EXPECT_THAT(scheduled_tokens(scheduler.schedule()), ElementsAre(1, 7))
      << "prompts go before drafts";
}

/// Random traffic; checks invariants in every step.
class Traffic : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, Traffic, testing::Range(0, 40));

TEST_P(Traffic, HoldsItsInvariants) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % n); };
  SchedulerLimits tight = limits(200 + below(300), 1 + below(6), 8 + below(100), 1);
  // From the pages of one sequence, where preemption is common, to plenty.
  for (int g = 0; g < backend::kKvGroups; ++g) {
    const int64_t min_pages =
        max_pages_per_sequence(tight.context, g ? tight.window : 0, tight.max_batched_tokens);
    tight.pages[g] = GetParam() % 8 == 7 && g == 1 - GetParam() / 8 % 2 ? 0 : min_pages + below(30);
  }
  Scheduler scheduler(tight);
  struct Text {
    Sequence sequence;
    int64_t end = 0;
  };
  std::map<int64_t, std::unique_ptr<Text>> alive;
  int64_t arrived = 0, done = 0, steps = 0;
  const int64_t all = 300;
  std::shared_ptr<SequenceGroup> group;
  while (done < all) {
    while (arrived < all && below(3) == 0) {
      const int64_t size = 1 + below(tight.context - 1);
      auto text_of = std::make_unique<Text>(
          Text{make_sequence(size, arrived, static_cast<int>(below(3)), below(size + 1))});
      text_of->sequence.score_prompt = below(10) == 0;
      text_of->end = size + 1 + below(tight.context - size);
      Sequence& s = text_of->sequence;
      if (below(4) == 0) {  // shares its prompt with the next
        s.sequence_group = group = std::make_shared<SequenceGroup>();
      } else if (group) {
        s.sequence_group = std::exchange(group, nullptr);
        s.waits_for_leader = true;
      }
      scheduler.add(s);
      alive.emplace(arrived++, std::move(text_of));
    }
    if (alive.empty()) continue;
    if (below(10) == 0) {  // a client cancels
      auto gone = alive.begin();
      std::advance(gone, below(static_cast<int64_t>(alive.size())));
      scheduler.remove(gone->second->sequence);
      alive.erase(gone);
      ++done;
      continue;
    }
    for (auto& [arrival, text_of] : alive) {
      text_of->sequence.draft_tokens.assign(below(4), 5);
    }
    const auto plan = scheduler.schedule();
    ASSERT_TRUE(!plan.empty() || alive.empty());
    int64_t total = 0, logit_rows = 0;
    std::set<const Sequence*> planned;
    std::set<int> slots;
    std::map<int32_t, int> holders[backend::kKvGroups];
    for (const Sequence* s : scheduler.running()) {
      ASSERT_TRUE(slots.insert(s->slot).second);
      for (int g = 0; g < backend::kKvGroups; ++g) {
        if (tight.pages[g] == 0) continue;
        std::set<int32_t> distinct;
        for (int64_t at = 0; at < tight.context; at += backend::kPageTokens) {
          const int32_t page = scheduler.table(static_cast<backend::KvGroup>(g)).page(s->slot, at);
          if (page >= 0) {
            ASSERT_TRUE(distinct.insert(page).second);
            ++holders[g][page];
          }
        }
      }
    }
    for (int g = 0; g < backend::kKvGroups; ++g) {
      const PagePool& pool = scheduler.pool(static_cast<backend::KvGroup>(g));
      ASSERT_EQ(pool.total() - pool.free(), static_cast<int64_t>(holders[g].size()));
    }
    for (const ScheduledChunk& chunk : plan) {
      const Sequence& s = *chunk.sequence;
      ASSERT_TRUE(planned.insert(&s).second) << "twice in a step";
      ASSERT_GT(chunk.num_tokens, 0);
      total += chunk.num_tokens;
      logit_rows += chunk.logit_rows;
      const int64_t end = s.computed + chunk.num_tokens;
      ASSERT_LE(end, std::min<int64_t>(tight.context,
                                       static_cast<int64_t>(s.tokens.size()) + chunk.num_drafts));
      for (int g = 0; g < backend::kKvGroups; ++g) {
        if (tight.pages[g] == 0) continue;
        const backend::PageTable table = scheduler.table(static_cast<backend::KvGroup>(g));
        for (int64_t at = g ? std::max<int64_t>(0, s.computed - tight.window + 1) : 0; at < end;
             ++at)
          ASSERT_GE(table.page(s.slot, at), 0) << "row " << s.computed << " sees " << at;
        for (int64_t at = s.computed; at < end; ++at)
          ASSERT_EQ(holders[g][table.page(s.slot, at)], 1) << "a page is written that others read";
      }
    }
    ASSERT_LE(total, tight.max_batched_tokens);
    ASSERT_LE(logit_rows, tight.max_logit_rows);
    ASSERT_LE(static_cast<int64_t>(scheduler.running().size()), tight.max_sequences);
    // The oldest running sequence is always scheduled.
    ASSERT_TRUE(planned.contains(scheduler.running()[0]));
    const std::vector<ScheduledChunk> chunks(plan.begin(), plan.end());
    for (const ScheduledChunk& chunk : chunks) {
      Sequence& s = *chunk.sequence;
      const int64_t accepted = chunk.num_drafts ? below(chunk.num_drafts + 1) : 0;
      for (int64_t i = 0; i < accepted; ++i) s.tokens.push_back(s.draft_tokens[i]);
      scheduler.advance(s, s.computed + chunk.num_tokens - chunk.num_drafts + accepted);
      if (s.computed >= s.prompt_length) s.score_prompt = false;
      if (s.computed < static_cast<int64_t>(s.tokens.size())) continue;
      s.tokens.push_back(static_cast<int32_t>(below(50)));
      if (static_cast<int64_t>(s.tokens.size()) >= alive.at(s.arrival)->end) {
        const int64_t arrival = s.arrival;
        scheduler.remove(s);
        alive.erase(arrival);
        ++done;
      }
    }
    ASSERT_LT(++steps, 400000) << "no end in sight";
  }
  for (int g = 0; g < backend::kKvGroups; ++g) {
    const PagePool& pool = scheduler.pool(static_cast<backend::KvGroup>(g));
    EXPECT_EQ(pool.free(), pool.total());
  }
}

}  // namespace
}  // namespace mxgpt::engine
