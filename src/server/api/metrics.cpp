#include "server/api/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "backend/ops.h"

namespace mxgpt::server {

void Histogram::record(double seconds) {
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  ++counts_[static_cast<size_t>(bound - kBounds.begin())];
  sum_ += seconds;
}

void Histogram::write(std::string& out, const char* name, const char* help) const {
  fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  int64_t total = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    total += counts_[i];
    fmt::format_to(std::back_inserter(out), "{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], total);
  }
  total += counts_.back();
  fmt::format_to(std::back_inserter(out),
                 "{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, total, sum_);
}

void Metrics::record_choice(const engine::ChoiceEnd& end) {
  const std::lock_guard lock(mutex_);
  if (end.output_tokens == 0) return;
  queue_time_.record(end.queue_seconds);
  time_to_first_token_.record(end.queue_seconds + end.prefill_seconds);
  if (end.output_tokens > 1)
    time_per_token_.record(end.decode_seconds / static_cast<double>(end.output_tokens - 1));
}

void Metrics::record_response(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[{path, status}];
}

std::string Metrics::render(const engine::EngineStatus* engine,
                            std::span<const Gauge> gauges) const {
  std::string out;
  const auto put = [&](const char* type, const char* name, const char* help, auto value) {
    fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help,
                   type, value);
  };
  const std::lock_guard lock(mutex_);
  out +=
      "# HELP mxgpt_http_responses_total HTTP responses by route and status\n"
      "# TYPE mxgpt_http_responses_total counter\n";
  for (const auto& [key, count] : responses_) {
    fmt::format_to(std::back_inserter(out),
                   "mxgpt_http_responses_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                   key.second, count);
  }
  queue_time_.write(out, "mxgpt_queue_seconds", "Seconds from arrival to the first step");
  time_to_first_token_.write(out, "mxgpt_time_to_first_token_seconds",
                             "Seconds from arrival to the first token");
  time_per_token_.write(out, "mxgpt_time_per_token_seconds",
                        "Mean seconds per token after the first, per choice");
  for (const Gauge& gauge : gauges) put("gauge", gauge.name, gauge.help, gauge.value);
  if (!engine) return out;
  put("gauge", "mxgpt_requests_queued", "Queued choices", engine->queued);
  put("gauge", "mxgpt_tokens_queued", "Prompt tokens of queued choices", engine->queued_tokens);
  put("gauge", "mxgpt_requests_running", "Running choices", engine->running);
  put("counter", "mxgpt_requests_total", "Accepted requests", engine->requests);
  put("counter", "mxgpt_requests_rejected_total", "Requests rejected because the queue was full",
      engine->rejected);
  put("counter", "mxgpt_prompt_tokens_total", "Prompt tokens", engine->prompt_tokens);
  put("counter", "mxgpt_cached_tokens_total", "Prompt tokens found in the prefix cache",
      engine->cached_tokens);
  put("counter", "mxgpt_output_tokens_total", "Output tokens", engine->output_tokens);
  put("counter", "mxgpt_steps_total", "Model steps", engine->steps);
  put("counter", "mxgpt_step_tokens_total", "Tokens computed in model steps",
      engine->batched_tokens);
  put("counter", "mxgpt_step_seconds_total", "Seconds in model steps", engine->step_seconds);
  put("counter", "mxgpt_busy_seconds_total",
      "Seconds in the engine loop, scheduling and sampling included", engine->busy_seconds);
  put("counter", "mxgpt_draft_tokens_total", "Speculative tokens proposed", engine->draft_tokens);
  put("counter", "mxgpt_accepted_draft_tokens_total", "Speculative tokens accepted",
      engine->accepted_draft_tokens);
  put("counter", "mxgpt_preemptions_total",
      "Sequences preempted to free KV pages; they are recomputed", engine->preemptions);
  put("counter", "mxgpt_failed_steps_total", "Failed model steps", engine->failed_steps);
  const engine::EngineStatus::Memory& memory = engine->memory;
  put("counter", "mxgpt_memory_shortages_total", "Failed allocations of device memory",
      memory.shortages);
  put("gauge", "mxgpt_memory_fallbacks", "Memory fallbacks applied; listed by /health",
      memory.applied_fallbacks.size());
  out +=
      "# HELP mxgpt_choices_ended_total Choices by finish reason\n"
      "# TYPE mxgpt_choices_ended_total counter\n";
  for (size_t i = 0; i < std::size(engine->finished); ++i) {
    fmt::format_to(std::back_inserter(out), "mxgpt_choices_ended_total{{finish=\"{}\"}} {}\n",
                   mxgpt::engine::name(static_cast<engine::FinishReason>(i)), engine->finished[i]);
  }
  out += "# HELP mxgpt_kv_pages Pages of the KV cache\n# TYPE mxgpt_kv_pages gauge\n";
  for (int group = 0; group < backend::kKvGroups; ++group) {
    const engine::EngineStatus::Pages& pages = engine->pages[group];
    const char* layers = group == static_cast<int>(backend::KvGroup::full) ? "full" : "window";
    fmt::format_to(std::back_inserter(out),
                   "mxgpt_kv_pages{{layers=\"{0}\",state=\"used\"}} {1}\n"
                   "mxgpt_kv_pages{{layers=\"{0}\",state=\"cached\"}} {2}\n"
                   "mxgpt_kv_pages{{layers=\"{0}\",state=\"free\"}} {3}\n",
                   layers, pages.used, pages.cached, pages.total - pages.used - pages.cached);
  }
  return out;
}

}  // namespace mxgpt::server
