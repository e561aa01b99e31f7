// The status page at /.
#include <fmt/format.h>

#include "base/escape.h"
#include "base/version.h"
#include "server/api/admin/health.h"
#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

HandlerResult get_status_page(const RequestContext& context) {
  const auto served = context.api.served_model_or_null();
  std::string rows;
  const auto row = [&](std::string_view name, const std::string& value) {
    std::string safe;
    for (const char c : value) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
    rows += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", name, safe);
  };
  row("Version", version());
  row("Uptime", fmt::format("{:.0f} s", context.api.uptime()));
  if (served) {
    const engine::EngineStatus status = served->engine().status();
    const std::string reason = degraded_reason(status, context.api.store().status());
    const runtime::MemoryPlan& planned = status.memory.planned;
    const auto size = [](int64_t bytes) { return format_bytes(static_cast<uint64_t>(bytes)); };
    row("State", status.draining  ? "shutting down"
                 : reason.empty() ? "ready"
                                  : "degraded: " + reason);
    row("Model", served->name());
    row("Architecture", served->model().config().architecture);
    row("Context", fmt::format("{} tokens", status.context));
    row("Memory",
        fmt::format("{} planned on the {}: weights {}, cache {}, workspace {}; {} resident",
                    size(planned.total()),
                    runtime::device(served->device()).is_host() ? "CPU" : "GPU",
                    size(planned.weights), size(planned.kv_cache), size(planned.workspace),
                    size(resident_bytes())));
    row("Requests", fmt::format("{} running, {} queued", status.running, status.queued));
    row("Tokens", fmt::format("{} prompt, {} output", status.prompt_tokens, status.output_tokens));
  } else {
    row("Model", "loading");
  }
  return HttpResponse{
      .content_type = "text/html; charset=utf-8",
      .body = fmt::format(
          "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>mxgpt</title>\n"
          "<style>body{{font:16px sans-serif;margin:3em}}th{{text-align:left;padding-right:2em}}"
          "</style>\n<h1>mxgpt</h1>\n<table>\n{}</table>\n"
          "<p><a href=\"/openapi.json\">API</a>, <a href=\"/health\">health</a>, "
          "<a href=\"/metrics\">metrics</a>; see docs/serving.md.</p></html>\n",
          rows),
      .headers = {{"content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"}}};
}

constexpr Route kRoutes[] = {{.method = "GET",
                              .path = "/",
                              .summary = "Status page",
                              .handler = get_status_page,
                              .is_public = true}};

}  // namespace

MXGPT_ROUTES(status_page) = kRoutes;

}  // namespace mxgpt::server
