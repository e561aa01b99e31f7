#include "engine/worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/threads.h"
#include "engine/ladder.h"

namespace mxgpt {

namespace {

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Engine::Worker::Worker(std::unique_ptr<RunnerSource> source, const EngineShape& shape,
                       const EngineOptions& options)
    : shape_(shape),
      options_(resolved(shape, options)),
      now_(options_),
      source_(std::move(source)),
      scheduler_(scheduler_limits(shape, options)) {
  status_.memory.device = options_.device;
  status_.memory.budget = options_.vram_budget;
  status_.memory.resident = options_.resident;
  make_runner(false);
  if (!status_.memory.conceded.empty()) scheduler_.restart(scheduler_limits(shape_, now_));
  publish();
  thread_ = std::thread([this] { run(); });
}

Engine::Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = cancelling_ = stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::variant<TokenStream, Engine::Refusal> Engine::Worker::submit(Request request) {
  auto shared = std::make_shared<SharedRequest>();
  shared->request = std::move(request);
  shared->submitted = Clock::now();
  const int choices = shared->open = shared->request.choices;
  shared->stream = std::make_shared<StreamState>(choices, options_.stream_events);
  const PageKey root = PageKey::root(shared->request.cache_salt);
  const auto siblings = choices > 1 ? std::make_shared<Siblings>() : nullptr;
  std::vector<std::unique_ptr<Answer>> answers;
  int64_t tokens = 0;
  for (int choice = 0; choice < choices; ++choice) {
    answers.push_back(std::make_unique<Answer>(shared, choice, options_.context));
    answers.back()->root = root;
    answers.back()->siblings = siblings;
    tokens += answers.back()->prompt;
  }
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Refusal::draining;
    // An empty queue takes any request, however many choices it has.
    if (queued_ > 0 && (queued_ + choices > options_.max_queue ||
                        queued_tokens_ + tokens > options_.max_queued_tokens)) {
      ++refused_;
      return Refusal::queue_full;
    }
    queued_ += choices;
    queued_tokens_ += tokens;
    for (std::unique_ptr<Answer>& answer : answers) {
      answer->arrival = requests_;
      inbox_.push_back(std::move(answer));
    }
    ++requests_;
  }
  wake_.notify_one();
  return TokenStream(shared->stream);
}

void Engine::Worker::drain(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto done = [&] { return !busy_ && inbox_.empty(); };
  if (idle_.wait_until(lock, deadline, done)) return;
  cancelling_ = true;
  idle_.wait(lock, done);
}

EngineStatus Engine::Worker::status() const {
  EngineStatus status;
  {
    const std::lock_guard lock(status_mutex_);
    status = published_;
  }
  const std::lock_guard lock(mutex_);
  status.queued = queued_;
  status.queued_tokens = queued_tokens_;
  status.requests = requests_;
  status.refused = refused_;
  status.draining = draining_;
  return status;
}

void Engine::Worker::run() {
  while (receive()) {
    const Clock::time_point start = Clock::now();
    drop_ended();
    if (!answers_.empty()) step();
    status_.busy_seconds += seconds(Clock::now() - start);
    publish();
  }
}

bool Engine::Worker::receive() {
  std::unique_lock lock(mutex_);
  queued_ -= std::exchange(begun_, 0);
  queued_tokens_ -= std::exchange(begun_tokens_, 0);
  busy_ = !answers_.empty();
  if (!busy_ && inbox_.empty()) {
    idle_.notify_all();
    wake_.wait(lock, [&] { return stopping_ || !inbox_.empty(); });
  }
  busy_ = busy_ || !inbox_.empty();
  cancel_all_ = cancelling_;
  for (std::unique_ptr<Answer>& answer : inbox_) {
    answer->index = answers_.size();
    scheduler_.add(*answer);
    answers_.push_back(std::move(answer));
  }
  inbox_.clear();
  return !stopping_ || busy_;
}

void Engine::Worker::drop_ended() {
  const Clock::time_point now = Clock::now();
  // From the end: one that leaves is replaced by the last.
  for (size_t i = answers_.size(); i-- > 0;) {
    Answer& answer = *answers_[i];
    if (cancel_all_ || answer.shared->stream->cancelled(answer.choice)) {
      finish(answer, Finish::cancelled, {}, now);
    } else if (answer.shared->request.deadline.value_or(now) < now) {
      finish(answer, Finish::deadline, {}, now);
    }
  }
}

Batch Engine::Worker::gather(std::span<const Slice> slices) {
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  logit_rows_.clear();
  for (const Slice& slice : slices) {
    const Sequence& s = *slice.sequence;
    for (int64_t row = 0; row < slice.rows; ++row) {
      const auto position = static_cast<size_t>(s.computed + row);
      tokens_.push_back(position < s.tokens.size() ? s.tokens[position]
                                                   : s.drafts[position - s.tokens.size()]);
      positions_.push_back(static_cast<int32_t>(position));
      sequences_.push_back(s.slot);
      if (row >= slice.rows - slice.logit_rows)
        logit_rows_.push_back(static_cast<int32_t>(tokens_.size() - 1));
    }
  }
  Batch batch{.tokens = tokens_,
              .positions = positions_,
              .sequences = sequences_,
              .logit_rows = logit_rows_};
  for (int g = 0; g < kKvGroups; ++g) batch.tables[g] = scheduler_.table(static_cast<KvGroup>(g));
  return batch;
}

void Engine::Worker::step() {
  if (!runner_) {
    try {
      make_runner(true);
    } catch (const cuda::OutOfMemory& shortage) {
      return end_all(shortage.what());
    }
    scheduler_.restart(scheduler_limits(shape_, now_));
  }
  const std::span<const Slice> slices = scheduler_.plan();
  const Clock::time_point start = Clock::now();
  for (const Slice& slice : slices) {
    auto& answer = static_cast<Answer&>(*slice.sequence);
    if (answer.begun) continue;
    answer.begun = start;
    ++begun_;
    begun_tokens_ += answer.prompt;
    status_.prompt_tokens += answer.prompt;
    status_.cached_tokens += answer.first_cached.value_or(0);
  }
  const Batch batch = gather(slices);
  std::span<const float> logits;
  try {
    logits = runner_->step(batch);
  } catch (const cuda::OutOfMemory& shortage) {
    return recover(shortage);
  } catch (const std::exception& error) {
    ++status_.failed_steps;
    status_.last_failure = error.what();
    for (const Slice& slice : slices) {
      auto& answer = static_cast<Answer&>(*slice.sequence);
      scheduler_.distrust(answer);
      finish(answer, Finish::failed, error.what(), start);
    }
    return;
  }
  const Clock::time_point computed = Clock::now();
  ++status_.steps;
  status_.step_rows += batch.rows();
  status_.step_seconds += seconds(computed - start);
  cost_.add(batch.rows(), seconds(computed - start));

  logits_at_.clear();
  for (int64_t row = 0; const Slice& slice : slices) {
    logits_at_.push_back(row * shape_.vocabulary);
    row += slice.logit_rows;
  }
  const auto draw = [&](int64_t i) {
    const Slice& slice = slices[i];
    auto& answer = static_cast<Answer&>(*slice.sequence);
    answer.draw(slice, logits.subspan(logits_at_[i], slice.logit_rows * shape_.vocabulary),
                shape_.vocabulary, options_.repetition);
    if (options_.drafts && !answer.finish) answer.propose(cost_, std::ssize(slices));
  };
  parallel_for(std::ssize(slices), draw);
  const Clock::time_point now = Clock::now();
  for (const Slice& slice : slices) settle(static_cast<Answer&>(*slice.sequence), slice, now);
}

void Engine::Worker::settle(Answer& answer, const Slice& slice, Clock::time_point now) {
  // Of the drafts, those are right that another token was drawn after.
  const int64_t right = std::max<int64_t>(answer.drawn - 1, 0);
  scheduler_.advance(answer, answer.computed + slice.rows - slice.drafts + right);
  status_.answer_tokens += answer.drawn;
  status_.drafts += slice.drafts;
  status_.right_drafts += right;
  if (answer.drawn && !answer.first_token) answer.first_token = now;
  bool read = true;
  for (StreamEvent& event : answer.events)
    read = read && answer.shared->stream->push(std::move(event));
  answer.events.clear();
  if (answer.finish == Finish::collapsed) scheduler_.distrust(answer);
  if (answer.finish) {
    finish(answer, *answer.finish, answer.what, now);
  } else if (!read) {
    finish(answer, Finish::slow_reader, "too much of the answer waits to be read", now);
  }
}

void Engine::Worker::finish(Answer& answer, Finish why, const std::string& what,
                            Clock::time_point now) {
  scheduler_.remove(answer);
  if (!answer.begun) {
    ++begun_;
    begun_tokens_ += answer.prompt;
  }
  ++status_.ended[static_cast<int>(why)];
  const Clock::time_point begun = answer.begun.value_or(now);
  const Clock::time_point first = answer.first_token.value_or(now);
  answer.shared->stream->push(
      ChoiceEnd{.choice = answer.choice,
                .finish = why,
                .what = what,
                .prompt_tokens = answer.prompt,
                .cached_tokens = std::min(answer.first_cached.value_or(0), answer.prompt),
                .answer_tokens = static_cast<int64_t>(answer.answer().size()),
                .queue_seconds = seconds(begun - answer.shared->submitted),
                .prompt_seconds = seconds(first - begun),
                .answer_seconds = seconds(now - first),
                .last = --answer.shared->open == 0});
  const size_t index = answer.index;
  std::swap(answers_[index], answers_.back());
  answers_[index]->index = index;
  answers_.pop_back();
}

bool Engine::Worker::give_up_something(const cuda::OutOfMemory& shortage, bool in_step) {
  EngineStatus::Memory& memory = status_.memory;
  ++memory.shortages;
  memory.last_shortage = shortage.what();
  std::optional<Concession> conceded = concede(shape_, now_);
  if (!conceded) return false;
  conceded->in_step = in_step;
  conceded->needed = shortage.needed;
  conceded->available = shortage.available;
  spdlog::warn("{}; so {} go down from {} to {}", shortage.what(), name(conceded->what),
               conceded->from, conceded->to);
  memory.conceded.push_back(*std::move(conceded));
  return true;
}

void Engine::Worker::make_runner(bool in_step) {
  while (!runner_) {
    const RunnerOptions options = Engine::runner_options(shape_, now_);
    try {
      runner_ = source_->make(options);
      status_.memory.planned = source_->plan(options);
    } catch (const cuda::OutOfMemory& shortage) {
      if (!give_up_something(shortage, in_step)) throw;
    }
  }
}

void Engine::Worker::recover(const cuda::OutOfMemory& shortage) {
  runner_.reset();
  status_.memory.planned = {};
  try {
    if (!give_up_something(shortage, true)) return end_all(shortage.what());
    make_runner(true);
  } catch (const std::exception&) {
    return end_all(status_.memory.last_shortage);
  }
  scheduler_.restart(scheduler_limits(shape_, now_));
}

void Engine::Worker::end_all(const std::string& what) {
  spdlog::error("{}; nothing is left to give up: all answers end", what);
  ++status_.failed_steps;
  status_.last_failure = what;
  scheduler_.restart(scheduler_.limits());
  const Clock::time_point now = Clock::now();
  while (!answers_.empty()) finish(*answers_.back(), Finish::no_memory, what, now);
}

void Engine::Worker::publish() {
  status_.running = static_cast<int64_t>(scheduler_.running().size());
  status_.preemptions = scheduler_.preemptions();
  status_.context = now_.context;
  status_.max_sequences = now_.max_sequences;
  status_.max_rows = now_.max_rows;
  for (int g = 0; g < kKvGroups; ++g) {
    const PagePool& pool = scheduler_.pool(static_cast<KvGroup>(g));
    status_.pages[g] = {
        .total = pool.total(), .used = pool.total() - pool.free(), .cached = pool.idle()};
  }
  const std::lock_guard lock(status_mutex_);
  published_ = status_;
}

}  // namespace mxgpt
