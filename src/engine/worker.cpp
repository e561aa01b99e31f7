#include "engine/worker.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/thread_pool.h"
#include "engine/memory_fallback.h"

namespace mxgpt::engine {

namespace {

/// Polling interval for blocked sequences when no other can run.
constexpr std::chrono::milliseconds kBlockedPoll{1};

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Engine::Worker::Worker(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
                       const EngineOptions& options)
    : shape_(shape),
      options_(resolve_defaults(shape, options)),
      current_options_(options_),
      runner_factory_(std::move(factory)),
      scheduler_(scheduler_limits(shape, options)) {
  status_.memory.device = options_.device;
  status_.memory.budget = options_.vram_budget;
  status_.memory.no_offload = options_.no_offload;
  create_runner(false);
  if (!status_.memory.applied_fallbacks.empty())
    scheduler_.reset(scheduler_limits(shape_, current_options_));
  publish_status();
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

std::variant<TokenStream, Engine::Rejection> Engine::Worker::submit(Request request) {
  auto shared = std::make_shared<ActiveRequest>();
  shared->request = std::move(request);
  shared->submitted = Clock::now();
  const int choices = shared->open_choices = shared->request.choices;
  shared->stream = std::make_shared<StreamState>(choices, options_.max_stream_events);
  const PageKey root = PageKey::root(shared->request.cache_salt);
  const auto group = choices > 1 ? std::make_shared<SequenceGroup>() : nullptr;
  std::vector<std::unique_ptr<ActiveSequence>> sequences;
  int64_t tokens = 0;
  for (int choice = 0; choice < choices; ++choice) {
    sequences.push_back(std::make_unique<ActiveSequence>(shared, choice, options_.context));
    sequences.back()->root_key = root;
    sequences.back()->sequence_group = group;
    tokens += sequences.back()->prompt_length;
  }
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Rejection::draining;
    // An empty queue accepts any number of choices.
    if (queued_ > 0 && (queued_ + choices > options_.max_queue ||
                        queued_tokens_ + tokens > options_.max_queued_tokens)) {
      ++refused_;
      return Rejection::queue_full;
    }
    queued_ += choices;
    queued_tokens_ += tokens;
    for (std::unique_ptr<ActiveSequence>& sequence : sequences) {
      sequence->arrival = requests_;
      inbox_.push_back(std::move(sequence));
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
  status.rejected = refused_;
  status.draining = draining_;
  return status;
}

void Engine::Worker::run() {
  while (receive_requests()) {
    const Clock::time_point start = Clock::now();
    reap();
    if (!active_.empty()) step();
    status_.busy_seconds += seconds(Clock::now() - start);
    publish_status();
  }
}

bool Engine::Worker::receive_requests() {
  std::unique_lock lock(mutex_);
  queued_ -= std::exchange(started_, 0);
  queued_tokens_ -= std::exchange(started_tokens_, 0);
  busy_ = !active_.empty();
  if (!busy_ && inbox_.empty()) {
    idle_.notify_all();
    wake_.wait(lock, [&] { return stopping_ || !inbox_.empty(); });
  } else if (std::exchange(all_blocked_, false)) {
    wake_.wait_for(lock, kBlockedPoll, [&] { return !inbox_.empty(); });
  }
  busy_ = busy_ || !inbox_.empty();
  cancel_all_ = cancelling_;
  for (std::unique_ptr<ActiveSequence>& sequence : inbox_) {
    sequence->index = active_.size();
    scheduler_.add(*sequence);
    active_.push_back(std::move(sequence));
  }
  inbox_.clear();
  return !stopping_ || busy_;
}

void Engine::Worker::reap() {
  const Clock::time_point now = Clock::now();
  // Backwards, since a removed sequence is replaced by the last.
  for (size_t i = active_.size(); i-- > 0;) {
    ActiveSequence& sequence = *active_[i];
    if (cancel_all_ || sequence.shared->stream->cancelled(sequence.choice)) {
      finish(sequence, FinishReason::cancelled, {}, now);
    } else if (sequence.shared->request.deadline.value_or(now) < now) {
      finish(sequence, FinishReason::deadline, {}, now);
    }
  }
}

backend::Batch Engine::Worker::build_batch(std::span<const ScheduledChunk> chunks) {
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  logit_rows_.clear();
  for (const ScheduledChunk& chunk : chunks) {
    const Sequence& s = *chunk.sequence;
    for (int64_t row = 0; row < chunk.num_tokens; ++row) {
      const auto position = static_cast<size_t>(s.computed + row);
      tokens_.push_back(position < s.tokens.size() ? s.tokens[position]
                                                   : s.draft_tokens[position - s.tokens.size()]);
      positions_.push_back(static_cast<int32_t>(position));
      sequences_.push_back(s.slot);
      if (row >= chunk.num_tokens - chunk.logit_rows)
        logit_rows_.push_back(static_cast<int32_t>(tokens_.size() - 1));
    }
  }
  backend::Batch batch{.tokens = tokens_,
                       .positions = positions_,
                       .sequences = sequences_,
                       .logit_rows = logit_rows_};
  for (int g = 0; g < backend::kKvGroups; ++g)
    batch.tables[g] = scheduler_.table(static_cast<backend::KvGroup>(g));
  return batch;
}

void Engine::Worker::step() {
  if (!runner_) {
    try {
      create_runner(true);
    } catch (const runtime::OutOfDeviceMemory& shortage) {
      return abort_all(shortage.what());
    }
    scheduler_.reset(scheduler_limits(shape_, current_options_));
  }
  for (const std::unique_ptr<ActiveSequence>& sequence : active_) {
    const TokenConstraint* constraint = sequence->constraint();
    sequence->blocked = constraint && constraint->is_pending();
  }
  const std::span<const ScheduledChunk> chunks = scheduler_.schedule();
  all_blocked_ = chunks.empty();
  if (all_blocked_) return;
  const Clock::time_point start = Clock::now();
  for (const ScheduledChunk& chunk : chunks) {
    auto& sequence = static_cast<ActiveSequence&>(*chunk.sequence);
    if (sequence.started_at) continue;
    sequence.started_at = start;
    ++started_;
    started_tokens_ += sequence.prompt_length;
    status_.prompt_tokens += sequence.prompt_length;
    status_.cached_tokens += sequence.initial_cached.value_or(0);
  }
  const backend::Batch batch = build_batch(chunks);
  std::span<const float> logits;
  try {
    logits = runner_->step(batch);
  } catch (const runtime::OutOfDeviceMemory& shortage) {
    return recover(shortage);
  } catch (const std::exception& error) {
    ++status_.failed_steps;
    status_.last_failure = error.what();
    for (const ScheduledChunk& chunk : chunks) {
      auto& sequence = static_cast<ActiveSequence&>(*chunk.sequence);
      scheduler_.exclude_from_prefix_cache(sequence);
      finish(sequence, FinishReason::step_failed, error.what(), start);
    }
    return;
  }
  const Clock::time_point computed = Clock::now();
  ++status_.steps;
  status_.batched_tokens += batch.rows();
  status_.step_seconds += seconds(computed - start);
  step_cost_.add(batch.rows(), seconds(computed - start));

  logits_offsets_.clear();
  for (int64_t row = 0; const ScheduledChunk& chunk : chunks) {
    logits_offsets_.push_back(row * shape_.vocabulary);
    row += chunk.logit_rows;
  }
  const auto sample = [&](int64_t i) {
    const ScheduledChunk& chunk = chunks[i];
    auto& sequence = static_cast<ActiveSequence&>(*chunk.sequence);
    sequence.sample_tokens(chunk,
                           logits.subspan(logits_offsets_[i], chunk.logit_rows * shape_.vocabulary),
                           shape_.vocabulary, options_.max_repeated_tokens);
    if (options_.speculate && !sequence.finish_reason)
      sequence.speculate(step_cost_, std::ssize(chunks));
  };
  parallel_for(std::ssize(chunks), sample);
  const Clock::time_point now = Clock::now();
  for (const ScheduledChunk& chunk : chunks)
    commit_tokens(static_cast<ActiveSequence&>(*chunk.sequence), chunk, now);
}

void Engine::Worker::commit_tokens(ActiveSequence& sequence, const ScheduledChunk& chunk,
                                   Clock::time_point now) {
  // A draft is accepted if another token was sampled after it. A deferred sequence computes its
  // last token again, for its logits.
  const int64_t accepted = std::max<int64_t>(sequence.new_tokens - 1, 0);
  const int64_t end = sequence.computed + chunk.num_tokens - chunk.num_drafts + accepted -
                      (sequence.deferred ? 1 : 0);
  if (end > sequence.computed) scheduler_.advance(sequence, end);
  status_.output_tokens += sequence.new_tokens;
  status_.draft_tokens += chunk.num_drafts;
  status_.accepted_draft_tokens += accepted;
  if (sequence.new_tokens && !sequence.first_token_at) sequence.first_token_at = now;
  bool delivered = true;
  for (StreamEvent& event : sequence.events)
    delivered = delivered && sequence.shared->stream->push(std::move(event));
  sequence.events.clear();
  if (sequence.finish_reason == FinishReason::degenerate)
    scheduler_.exclude_from_prefix_cache(sequence);
  if (sequence.finish_reason) {
    finish(sequence, *sequence.finish_reason, sequence.error, now);
  } else if (!delivered) {
    finish(sequence, FinishReason::slow_reader, "client reads too slowly: output buffer is full",
           now);
  }
}

void Engine::Worker::finish(ActiveSequence& sequence, FinishReason reason, const std::string& error,
                            Clock::time_point now) {
  scheduler_.remove(sequence);
  if (!sequence.started_at) {
    ++started_;
    started_tokens_ += sequence.prompt_length;
  }
  ++status_.finished[static_cast<int>(reason)];
  const Clock::time_point started = sequence.started_at.value_or(now);
  const Clock::time_point first_token = sequence.first_token_at.value_or(now);
  sequence.shared->stream->push(ChoiceEnd{
      .choice = sequence.choice,
      .finish_reason = reason,
      .error = error,
      .prompt_tokens = sequence.prompt_length,
      .cached_tokens = std::min(sequence.initial_cached.value_or(0), sequence.prompt_length),
      .output_tokens = static_cast<int64_t>(sequence.output_tokens().size()),
      .queue_seconds = seconds(started - sequence.shared->submitted),
      .prefill_seconds = seconds(first_token - started),
      .decode_seconds = seconds(now - first_token),
      .last = --sequence.shared->open_choices == 0});
  const size_t index = sequence.index;
  std::swap(active_[index], active_.back());
  active_[index]->index = index;
  active_.pop_back();
}

bool Engine::Worker::apply_fallback(const runtime::OutOfDeviceMemory& shortage, bool during_step) {
  EngineStatus::Memory& memory = status_.memory;
  ++memory.shortages;
  memory.last_shortage = shortage.what();
  std::optional<MemoryFallback> fallback = next_fallback(shape_, current_options_);
  if (!fallback) return false;
  fallback->during_step = during_step;
  fallback->needed = shortage.needed;
  fallback->available = shortage.available;
  log::warn("{}: reducing {} from {} to {}", shortage.what(), name(fallback->kind), fallback->from,
            fallback->to);
  memory.applied_fallbacks.push_back(*std::move(fallback));
  return true;
}

void Engine::Worker::create_runner(bool during_step) {
  while (!runner_) {
    const runtime::RunnerOptions options = Engine::runner_options(shape_, current_options_);
    try {
      runner_ = runner_factory_->create(options);
      status_.memory.planned = runner_factory_->plan_memory(options);
    } catch (const runtime::OutOfDeviceMemory& shortage) {
      if (!apply_fallback(shortage, during_step)) throw;
    }
  }
}

void Engine::Worker::recover(const runtime::OutOfDeviceMemory& shortage) {
  runner_.reset();
  status_.memory.planned = {};
  try {
    if (!apply_fallback(shortage, true)) return abort_all(shortage.what());
    create_runner(true);
  } catch (const std::exception&) {
    return abort_all(status_.memory.last_shortage);
  }
  scheduler_.reset(scheduler_limits(shape_, current_options_));
}

void Engine::Worker::abort_all(const std::string& error) {
  log::error("{}: no memory fallback left; aborting all requests", error);
  ++status_.failed_steps;
  status_.last_failure = error;
  scheduler_.reset(scheduler_.limits());
  const Clock::time_point now = Clock::now();
  while (!active_.empty()) finish(*active_.back(), FinishReason::out_of_memory, error, now);
}

void Engine::Worker::publish_status() {
  status_.running = static_cast<int64_t>(scheduler_.running().size());
  status_.preemptions = scheduler_.preemptions();
  status_.context = current_options_.context;
  status_.max_sequences = current_options_.max_sequences;
  status_.max_batched_tokens = current_options_.max_batched_tokens;
  for (int g = 0; g < backend::kKvGroups; ++g) {
    const PagePool& pool = scheduler_.pool(static_cast<backend::KvGroup>(g));
    status_.pages[g] = {
        .total = pool.total(), .used = pool.total() - pool.free(), .cached = pool.cached()};
  }
  const std::lock_guard lock(status_mutex_);
  published_ = status_;
}

}  // namespace mxgpt::engine
