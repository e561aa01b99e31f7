// /metrics.
#include <optional>
#include <vector>

#include "server/api/admin/health.h"
#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

HandlerResult get_metrics(const RequestContext& context) {
  const auto served = context.api.served_model_or_null();
  HttpResponse response{.content_type = "text/plain; version=0.0.4"};
  std::vector<Metrics::Gauge> gauges{
      {"mxgpt_uptime_seconds", "Seconds since the server started",
       static_cast<int64_t>(context.api.uptime())},
      {"mxgpt_resident_bytes", "Resident set size in bytes", resident_bytes()},
      {"mxgpt_loaded", "1 once the model is loaded", served ? 1 : 0}};
  const ResponseStore::Status stored = context.api.store().status();
  gauges.push_back({"mxgpt_stored_responses", "Stored responses", stored.count});
  gauges.push_back({"mxgpt_stored_bytes", "Bytes used by stored responses", stored.bytes});
  gauges.push_back({"mxgpt_store_failures", "Responses that could not be stored", stored.failed});
  std::optional<engine::EngineStatus> status;
  if (served) {
    status = served->engine().status();
    const chat::GrammarCompiler::CacheStats grammars = served->grammar_compiler().cache_stats();
    gauges.push_back(
        {"mxgpt_grammars", "Compiled grammars in the cache", static_cast<int64_t>(grammars.count)});
    gauges.push_back({"mxgpt_grammars_bytes", "Approximate bytes used by compiled grammars",
                      static_cast<int64_t>(grammars.bytes)});
    gauges.push_back(
        {"mxgpt_planned_bytes", "Planned device memory in bytes", status->memory.planned.total()});
  }
  response.body = context.api.metrics().render(status ? &*status : nullptr, gauges);
  return response;
}

constexpr Route kRoutes[] = {{"GET", "/metrics", "Metrics in Prometheus format", get_metrics}};

}  // namespace

MXGPT_ROUTES(metrics) = kRoutes;

}  // namespace mxgpt::server
