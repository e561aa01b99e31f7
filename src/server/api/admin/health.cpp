// /health.
#include "server/api/admin/health.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "base/escape.h"
#include "base/version.h"
#include "server/api/admin/json_response.h"
#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(escape_for_terminal(text));
}

std::string_view chat_format_name(const ServedModel& served) {
  if (served.chat().harmony()) return text::kHarmonyFormat;
  return served.chat().chat_template() ? served.chat().chat_template()->name : "none";
}

HttpResponse loading_response(const ApiServer::LoadProgress& loading, json::object out) {
  json::object progress{{"phase", or_null(loading.phase)}, {"progress", nullptr}};
  if (loading.total > 0)
    progress["progress"] = static_cast<double>(loading.done) / static_cast<double>(loading.total);
  out["loading"] = std::move(progress);
  HttpResponse response = json_response(out);
  response.status = 503;
  response.headers.emplace_back("retry-after", "5");
  return response;
}

}  // namespace

int64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  int64_t all = 0, resident = 0;
  return pages >> all >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

json::object memory_json(const engine::EngineStatus::Memory& memory, int64_t used) {
  const runtime::MemoryPlan& planned = memory.planned;
  json::array fallbacks;
  for (const engine::MemoryFallback& fallback : memory.applied_fallbacks) {
    fallbacks.push_back({{"kind", engine::name(fallback.kind)},
                         {"from", fallback.from},
                         {"to", fallback.to},
                         {"during", fallback.during_step ? "step" : "load"},
                         {"needed", fallback.needed},
                         {"available", fallback.available}});
  }
  return {{"used", used},
          {"planned", planned.total()},
          {"weights", planned.weights},
          {"kv", planned.kv_cache},
          {"workspace", planned.workspace},
          {"runtime", planned.runtime},
          {"budget", memory.budget ? json::value(memory.budget) : json::value(nullptr)},
          {"shortages", memory.shortages},
          {"last_shortage", or_null(memory.last_shortage)},
          {"fallbacks", std::move(fallbacks)}};
}

std::string degraded_reason(const engine::EngineStatus& engine,
                            const ResponseStore::Status& store) {
  if (!store.last_error.empty())
    return fmt::format("responses are not stored: {}", escape_for_terminal(store.last_error));
  if (!engine.last_failure.empty()) return escape_for_terminal(engine.last_failure);
  return engine.memory.applied_fallbacks.empty() ? ""
                                                 : escape_for_terminal(engine.memory.last_shortage);
}

namespace {

HandlerResult get_health(const RequestContext& context) {
  const auto served = context.api.served_model_or_null();
  json::object out{{"status", "loading"},
                   {"version", version()},
                   {"uptime_seconds", static_cast<int64_t>(context.api.uptime())}};
  if (!served) return loading_response(context.api.load_progress(), std::move(out));

  const engine::EngineStatus status = served->engine().status();
  const std::string reason = degraded_reason(status, context.api.store().status());
  out["status"] = status.draining ? "draining" : reason.empty() ? "ready" : "degraded";
  if (!reason.empty()) out["last_failure"] = reason;
  const model::Config& config = served->model().config();
  const ModelInfo& info = served->info();
  const bool on_host = runtime::device(served->device()).is_host();
  const int64_t resident = resident_bytes();
  out["model"] = served->name();
  out["model_sha256"] = or_null(served->sha256());
  out["architecture"] = config.architecture;
  out["quant_kind"] = info.weight_format;
  out["resident"] = resident;
  out["device"] = served->device();
  // An accelerator's memory is allocated at once as planned, host memory as it is needed.
  out["device_memory"] =
      memory_json(status.memory, on_host ? resident : status.memory.planned.total());
  out["gpu"] = or_null(info.device.product);
  out["compute_capability"] = or_null(info.device.compute_capability);
  for (const std::string_view name : runtime::device_names()) {
    if (const std::string_view key = runtime::device(name).version_key(); !key.empty())
      out[key] = name == served->device() ? or_null(info.device.version) : json::value(nullptr);
  }
  out["chat_format"] = chat_format_name(*served);
  out["tokenizer"] = served->tokenizer()->kind();
  out["vocabulary"] = config.vocabulary;
  out["context_length"] = status.context;
  out["requests"] = {{"running", status.running}, {"queued", status.queued}};
  HttpResponse response = json_response(out);
  if (status.draining) response.status = 503;
  return response;
}

constexpr Route kRoutes[] = {{.method = "GET",
                              .path = "/health",
                              .summary = "State of the server and its model",
                              .handler = get_health,
                              .is_public = true}};

}  // namespace

MXGPT_ROUTES(health) = kRoutes;

}  // namespace mxgpt::server
