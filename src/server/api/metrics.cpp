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
      "# HELP mxgpt_http_responses_total Answers by route and status\n"
      "# TYPE mxgpt_http_responses_total counter\n";
  for (const auto& [key, count] : responses_) {
    fmt::format_to(std::back_inserter(out),
                   "mxgpt_http_responses_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                   key.second, count);
  }
  queue_time_.write(out, "mxgpt_queue_seconds", "From arrival until first computed");
  time_to_first_token_.write(out, "mxgpt_time_to_first_token_seconds",
                             "From arrival until the first token");
  time_per_token_.write(out, "mxgpt_time_per_token_seconds",
                        "Mean of an answer, after its first token");
  for (const Gauge& gauge : gauges) put("gauge", gauge.name, gauge.help, gauge.value);
  if (!engine) return out;
  put("gauge", "mxgpt_requests_queued", "Choices in the queue", engine->queued);
  put("gauge", "mxgpt_tokens_queued", "Tokens of their prompts", engine->queued_tokens);
  put("gauge", "mxgpt_requests_running", "Choices in work", engine->running);
  put("counter", "mxgpt_requests_total", "Requests taken", engine->requests);
  put("counter", "mxgpt_requests_refused_total", "Requests refused, the queue being full",
      engine->rejected);
  put("counter", "mxgpt_prompt_tokens_total", "Tokens of prompts", engine->prompt_tokens);
  put("counter", "mxgpt_cached_tokens_total", "Of these, found in the prefix cache",
      engine->cached_tokens);
  put("counter", "mxgpt_answer_tokens_total", "Tokens of answers", engine->output_tokens);
  put("counter", "mxgpt_steps_total", "Steps of the model", engine->steps);
  put("counter", "mxgpt_step_rows_total", "Tokens computed in them", engine->batched_tokens);
  put("counter", "mxgpt_step_seconds_total", "Seconds in them", engine->step_seconds);
  put("counter", "mxgpt_busy_seconds_total",
      "Seconds of the engine, scheduling and drawing included", engine->busy_seconds);
  put("counter", "mxgpt_drafts_total", "Tokens guessed", engine->draft_tokens);
  put("counter", "mxgpt_right_drafts_total", "Of these, drawn", engine->accepted_draft_tokens);
  put("counter", "mxgpt_preemptions_total", "Answers set back for want of pages, to be recomputed",
      engine->preemptions);
  put("counter", "mxgpt_failed_steps_total", "Steps that failed", engine->failed_steps);
  const engine::EngineStatus::Memory& memory = engine->memory;
  put("counter", "mxgpt_memory_shortages_total", "Times that the device's memory did not suffice",
      memory.shortages);
  put("gauge", "mxgpt_memory_conceded", "What was given up for that; /health says what",
      memory.applied_fallbacks.size());
  out +=
      "# HELP mxgpt_choices_ended_total Choices by how they ended\n"
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
