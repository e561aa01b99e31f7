#include "chat/constraints/xgrammar_grammar.h"

#include <fmt/format.h>
#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/request.h"

namespace {

struct WorkExceeded : std::exception {
  const char* what() const noexcept override { return "the work budget is exceeded"; }
};

/// Bounds what xgrammar's parser does on this thread.
struct WorkBudget {
  int64_t left = INT64_MAX;
  int64_t max_states = INT64_MAX;  // per position
  const std::atomic<bool>* cancelled = nullptr;
  int64_t used = 0;
};
thread_local WorkBudget* current_budget = nullptr;

class BudgetScope {
 public:
  explicit BudgetScope(WorkBudget& budget) { current_budget = &budget; }
  ~BudgetScope() { current_budget = nullptr; }
  BudgetScope(const BudgetScope&) = delete;
  BudgetScope& operator=(const BudgetScope&) = delete;
};

}  // namespace

// Called by xgrammar's parser for each state it predicts: `work` states compared, `states` queued
// at this position.
extern "C" void mxgpt_xgrammar_work(size_t work, size_t states) {
  WorkBudget* budget = current_budget;
  if (!budget) return;
  budget->used += static_cast<int64_t>(work);
  if (budget->used > budget->left || static_cast<int64_t>(states) > budget->max_states ||
      (budget->cancelled && budget->cancelled->load(std::memory_order_relaxed)))
    throw WorkExceeded();
}

namespace mxgpt::chat {

namespace {

constexpr int kMaxWhitespace = 16;  // between the elements of JSON
constexpr int kCheapJobs = 8;

/// Matches one text. A thread owns it while it computes.
struct MatcherState {
  explicit MatcherState(xgrammar::CompiledGrammar compiled) : grammar(std::move(compiled)) {}

  xgrammar::CompiledGrammar grammar;
  std::optional<xgrammar::GrammarMatcher> matcher;
  std::vector<text::TokenId> tokens;
  size_t accepted = 0;  // tokens that the matcher has
  int64_t text_work = 0;
  std::vector<uint32_t> mask;
  bool complete = false;
  int64_t mask_work = 0;

  /// Brings the matcher to the end of `tokens` and computes the mask. After an exception the
  /// matcher is unusable, and is rebuilt by the next call.
  void compute(size_t words, int64_t max_work, const std::atomic<bool>* cancelled) {
    try {
      WorkBudget budget{.left = max_work, .max_states = kMaxPositionStates, .cancelled = cancelled};
      const BudgetScope scope(budget);
      if (!matcher) {
        matcher.emplace(grammar);
        accepted = 0;
      }
      for (; accepted < tokens.size(); ++accepted) {
        budget.used = 0;
        if (!matcher->AcceptToken(tokens[accepted]))
          throw Error("grammar", fmt::format("does not allow token {}", tokens[accepted]));
        if (accepted + 1 == tokens.size()) text_work += budget.used;
      }
      if (text_work > kMaxTextWork) throw WorkExceeded();
      budget.used = 0;
      mask.assign(words, 0);
      int64_t shape = static_cast<int64_t>(words);
      DLTensor tensor{.data = mask.data(),
                      .device = {kDLCPU, 0},
                      .ndim = 1,
                      .dtype = xgrammar::GetBitmaskDLType(),
                      .shape = &shape,
                      .strides = nullptr,
                      .byte_offset = 0};
      if (!matcher->FillNextTokenBitmask(&tensor)) std::fill(mask.begin(), mask.end(), ~0u);
      complete = matcher->IsCompleted();
      mask_work = budget.used;
    } catch (...) {
      matcher.reset();
      throw;
    }
  }
};

/// A mask being computed on the background thread.
struct MaskJob {
  explicit MaskJob(std::shared_ptr<MatcherState> of) : state(std::move(of)) {}

  std::shared_ptr<MatcherState> state;
  std::atomic<bool> cancelled = false, done = false;
  std::exception_ptr error;  // valid once done

  void wait() {
    std::unique_lock lock(mutex);
    finished.wait(lock, [this] { return done.load(); });
  }
  void finish(std::exception_ptr failure) {
    const std::lock_guard lock(mutex);
    error = std::move(failure);
    done = true;
    finished.notify_all();
  }

 private:
  std::mutex mutex;
  std::condition_variable finished;
};

class XgrammarMatcher : public Grammar::Matcher {
 public:
  XgrammarMatcher(xgrammar::CompiledGrammar grammar, size_t words,
                  std::shared_ptr<TaskThread> thread, std::function<void()> on_timeout)
      : state_(std::make_shared<MatcherState>(std::move(grammar))),
        words_(words),
        thread_(std::move(thread)),
        on_timeout_(std::move(on_timeout)) {}
  ~XgrammarMatcher() override {
    if (job_) job_->cancelled = true;
  }

  bool prepare() override {
    if (ready_ || error_) return true;
    if (job_) return collect();
    if (!background_) {
      try {
        state_->compute(words_, kInlineWork, nullptr);
        ready_ = true;
        return true;
      } catch (const WorkExceeded&) {
        background_ = true;
        cheap_jobs_ = 0;
      } catch (...) {
        error_ = std::current_exception();
        return true;
      }
    }
    start_job();
    return error_ != nullptr;
  }

  bool is_pending() const override { return job_ && !job_->done.load(std::memory_order_acquire); }

  void fill_mask(std::span<uint32_t> allowed) override {
    finish();
    std::copy(state_->mask.begin(), state_->mask.end(), allowed.begin());
  }

  bool is_complete() override {
    finish();
    return state_->complete;
  }

  void accept(text::TokenId token) override {
    state_->tokens.push_back(token);
    ready_ = false;
    if (background_) start_job();  // beside the model's next step
  }

 private:
  void finish() {
    while (!prepare()) job_->wait();
    if (error_) std::rethrow_exception(error_);
  }

  void start_job() try {
    auto job = std::make_shared<MaskJob>(state_);
    const bool posted = thread_->post([job, words = words_, on_timeout = on_timeout_] {
      std::exception_ptr failure;
      try {
        job->state->compute(words, kMaxMaskWork, &job->cancelled);
      } catch (const WorkExceeded&) {
        if (!job->cancelled) on_timeout();
        failure = std::make_exception_ptr(engine::ConstraintTimeout(
            "the grammar is too ambiguous: the set of allowed tokens takes too long to compute"));
      } catch (...) {
        failure = std::current_exception();
      }
      job->finish(std::move(failure));
    });
    if (posted) {
      job_ = std::move(job);
    } else {
      error_ = std::make_exception_ptr(Error("grammar", "the system cannot start a thread"));
    }
  } catch (...) {
    error_ = std::current_exception();
  }

  bool collect() {
    if (is_pending()) return false;
    error_ = job_->error;
    ready_ = !error_;
    job_.reset();
    // Back to computing in place, once masks have been cheap for a while: a mask that fails there
    // is computed twice.
    cheap_jobs_ = state_->mask_work < kInlineWork / 2 ? cheap_jobs_ + 1 : 0;
    if (cheap_jobs_ >= kCheapJobs) background_ = false;
    return true;
  }

  std::shared_ptr<MatcherState> state_;  // the job's while job_ is pending
  const size_t words_;
  std::shared_ptr<TaskThread> thread_;
  const std::function<void()> on_timeout_;
  bool ready_ = false;
  bool background_ = false;  // a mask has exceeded kInlineWork
  int cheap_jobs_ = 0;       // in a row
  std::exception_ptr error_;
  std::shared_ptr<MaskJob> job_;
};

class XgrammarGrammar : public Grammar {
 public:
  XgrammarGrammar(xgrammar::CompiledGrammar grammar, size_t words,
                  std::shared_ptr<TaskThread> thread, std::function<void()> on_timeout)
      : grammar_(std::move(grammar)),
        words_(words),
        thread_(std::move(thread)),
        on_timeout_(std::move(on_timeout)) {}
  std::unique_ptr<Matcher> make_matcher() const override {
    return std::make_unique<XgrammarMatcher>(grammar_, words_, thread_, on_timeout_);
  }

 private:
  xgrammar::CompiledGrammar grammar_;
  const size_t words_;
  std::shared_ptr<TaskThread> thread_;
  const std::function<void()> on_timeout_;
};

std::vector<std::string> spellings(const text::Tokenizer& tokenizer) {
  std::vector<std::string> out;
  for (text::TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    // xgrammar treats a token without a spelling as a control token.
    out.emplace_back(tokenizer.is_special(token) ? std::string_view()
                                                 : tokenizer.id_to_token(token));
  }
  return out;
}

}  // namespace

struct Xgrammar::Impl {
  Impl(const text::Tokenizer& tokenizer, bool byte_level, int64_t vocabulary,
       std::shared_ptr<TaskThread> thread)
      : words(static_cast<size_t>((vocabulary + 31) / 32)),
        tokens(spellings(tokenizer),
               byte_level ? xgrammar::VocabType::BYTE_LEVEL : xgrammar::VocabType::BYTE_FALLBACK,
               static_cast<int>(vocabulary), std::vector<int32_t>{}),
        compiler(tokens, 1, false),
        mask_thread(std::move(thread)) {}

  xgrammar::CompiledGrammar compile(GrammarKind kind, const std::string& source) {
    switch (kind) {
      case GrammarKind::json_schema:
        return compiler.CompileJSONSchema(source, true, std::nullopt, std::nullopt, true,
                                          kMaxWhitespace);
      case GrammarKind::regex:
        return compiler.CompileRegex(source);
      case GrammarKind::gbnf:
        return compiler.CompileGrammar(source);
    }
    return compiler.CompileBuiltinJSONGrammar();
  }

  const size_t words;  // of a mask
  xgrammar::TokenizerInfo tokens;
  xgrammar::GrammarCompiler compiler;
  std::shared_ptr<TaskThread> mask_thread;
};

Xgrammar::Xgrammar(const text::Tokenizer& tokenizer, bool byte_level, int64_t vocabulary,
                   std::shared_ptr<TaskThread> mask_thread)
    : impl_(std::make_unique<Impl>(tokenizer, byte_level, vocabulary, std::move(mask_thread))) {}

Xgrammar::~Xgrammar() = default;

Xgrammar::Compiled Xgrammar::compile(GrammarKind kind, const std::string& source,
                                     const std::atomic<bool>& cancelled,
                                     std::function<void()> on_timeout) {
  WorkBudget budget{.cancelled = &cancelled};
  const BudgetScope scope(budget);
  const xgrammar::CompiledGrammar compiled = impl_->compile(kind, source);
  return {std::make_shared<const XgrammarGrammar>(compiled, impl_->words, impl_->mask_thread,
                                                  std::move(on_timeout)),
          compiled.MemorySizeBytes()};
}

}  // namespace mxgpt::chat
