#include "chat/constraints/grammar_compiler.h"

#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <list>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "chat/constraints/grammar_limits.h"
#include "chat/constraints/xgrammar_grammar.h"
#include "chat/request_error.h"

namespace mxgpt::chat {

namespace {

constexpr size_t kMaxSourceBytes = 64 << 10;
constexpr size_t kMaxCachedGrammars = 128, kMaxCacheBytes = size_t{256} << 20;

/// xgrammar's errors begin with the time and the line that threw: "[12:30:05] /x/y.cc:123: ".
std::string_view without_source_location(std::string_view text) {
  if (const size_t file = text.find(".cc:"); text.starts_with('[') && file != text.npos) {
    const size_t end = text.find(": ", file);
    if (end != text.npos) text.remove_prefix(end + 2);
  }
  return text.substr(0, text.find_last_not_of(" \n") + 1);
}

}  // namespace

/// Least recently used, by source.
class GrammarCompiler::Cache {
 public:
  std::shared_ptr<const Grammar> find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = position(key);
    if (found == entries_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found);
    return found->grammar;
  }

  void insert(const std::string& key, std::shared_ptr<const Grammar> grammar, size_t bytes) {
    const std::lock_guard lock(mutex_);
    erase(position(key));
    bytes_ += bytes + key.size();
    entries_.push_front({key, std::move(grammar), bytes + key.size()});
    while (entries_.size() > kMaxCachedGrammars || (bytes_ > kMaxCacheBytes && entries_.size() > 1))
      erase(std::prev(entries_.end()));
  }

  void erase(const std::string& key) {
    const std::lock_guard lock(mutex_);
    erase(position(key));
  }

  CacheStats stats() const {
    const std::lock_guard lock(mutex_);
    return {entries_.size(), bytes_};
  }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
    size_t bytes;
  };

  std::list<Entry>::iterator position(const std::string& key) {
    return std::find_if(entries_.begin(), entries_.end(),
                        [&](const Entry& entry) { return entry.key == key; });
  }
  void erase(std::list<Entry>::iterator entry) {
    if (entry == entries_.end()) return;
    bytes_ -= entry->bytes;
    entries_.erase(entry);
  }

  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  size_t bytes_ = 0;
};

/// Admits one compilation at a time.
struct GrammarCompiler::Slot {
  /// Released when the last copy of the handle goes. Null after `max_time`.
  static std::shared_ptr<void> acquire(const std::shared_ptr<Slot>& slot,
                                       std::chrono::milliseconds max_time) {
    std::unique_lock lock(slot->mutex);
    if (!slot->released.wait_for(lock, max_time, [&] { return !slot->busy; })) return nullptr;
    slot->busy = true;
    lock.unlock();
    return {slot.get(), [slot](void*) {
              const std::lock_guard release(slot->mutex);
              slot->busy = false;
              slot->released.notify_one();
            }};
  }

  std::mutex mutex;
  std::condition_variable released;
  bool busy = false;
};

struct GrammarCompiler::Source {
  GrammarKind kind;
  const char* name;
  std::string text;
};

GrammarCompiler::GrammarCompiler(std::shared_ptr<const text::Tokenizer> tokenizer, bool byte_level,
                                 int64_t vocabulary, GrammarCompilerOptions options)
    : max_time_(options.max_time),
      cache_(std::make_shared<Cache>()),
      slot_(std::make_shared<Slot>()),
      xgrammar_(std::make_shared<Xgrammar>(*tokenizer, byte_level, vocabulary,
                                           std::make_shared<TaskThread>(options.start_thread))),
      compile_thread_(options.start_thread) {}

GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::json_schema(const json::value& schema,
                                                            const std::string& field) {
  return compile({GrammarKind::json_schema, "schema", json::serialize(schema)}, field,
                 [&] { check_schema(schema); });
}

std::shared_ptr<const Grammar> GrammarCompiler::regex(const std::string& pattern,
                                                      const std::string& field) {
  return compile({GrammarKind::regex, "regex", pattern}, field, [&] { check_regex(pattern); });
}

std::shared_ptr<const Grammar> GrammarCompiler::ebnf(const std::string& grammar,
                                                     const std::string& field) {
  return compile({GrammarKind::gbnf, "grammar", grammar}, field, [&] { check_grammar(grammar); });
}

GrammarCompiler::CacheStats GrammarCompiler::cache_stats() const {
  return cache_->stats();
}

std::shared_ptr<const Grammar> GrammarCompiler::compile(const Source& source,
                                                        const std::string& field,
                                                        const std::function<void()>& check) {
  const std::string key = fmt::format("{} {}", source.name, source.text);
  if (auto found = cache_->find(key)) return found;
  const std::string code = fmt::format("invalid_{}", source.name);
  const auto invalid = [&](const std::string& message) {
    return RequestError(field, fmt::format("the {} {}", source.name, message), code);
  };
  try {
    check();
  } catch (const Error& e) {
    throw RequestError(field, e.what(), code);
  }
  if (source.text.size() > kMaxSourceBytes)
    throw invalid(fmt::format("is longer than {} bytes", kMaxSourceBytes));

  std::shared_ptr<void> slot = Slot::acquire(slot_, max_time_);
  if (!slot) throw RequestError::busy("other requests' grammars are being compiled; try again");
  if (auto found = cache_->find(key)) return found;
  struct Compilation {
    std::promise<Xgrammar::Compiled> promise;
    std::atomic<bool> cancelled = false;
  };
  const auto job = std::make_shared<Compilation>();
  std::future<Xgrammar::Compiled> result = job->promise.get_future();
  const bool posted =
      compile_thread_.post([job, slot = std::move(slot), xgrammar = xgrammar_, kind = source.kind,
                            text = source.text, forget = [cache = std::weak_ptr(cache_), key] {
                              if (const auto owner = cache.lock()) owner->erase(key);
                            }] {
        try {
          job->promise.set_value(xgrammar->compile(kind, text, job->cancelled, forget));
        } catch (...) {
          job->promise.set_exception(std::current_exception());
        }
      });
  if (!posted) throw RequestError::busy("the system cannot start a thread; try again");
  if (result.wait_for(max_time_) != std::future_status::ready) {
    job->cancelled = true;
    throw invalid(fmt::format("takes longer than {} ms to compile", max_time_.count()));
  }
  try {
    const Xgrammar::Compiled compiled = result.get();
    cache_->insert(key, compiled.grammar, compiled.bytes);
    return compiled.grammar;
  } catch (const std::exception& e) {
    const std::string_view fault = without_source_location(e.what());
    throw invalid(fmt::format("cannot be used: {}", escape_for_terminal(fault, 500)));
  }
}

}  // namespace mxgpt::chat
