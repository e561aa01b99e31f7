// /health.
#include "server/health.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "base/printable.h"
#include "base/version.h"
#include "server/api.h"

namespace mxgpt::server {

namespace {

HttpResponse reply(const json::value& value) {
  return {.body = json::serialize(value)};
}

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(printable(text));
}

std::string_view chat_format(const Served& served) {
  if (served.harmony()) return kHarmonyFormat;
  return served.turns() ? served.turns()->name : "none";
}

HttpResponse while_loading(const Api::Loading& loading, json::object out) {
  json::object progress{{"doing", or_null(loading.doing)}, {"share", nullptr}};
  if (loading.total > 0)
    progress["share"] = static_cast<double>(loading.done) / static_cast<double>(loading.total);
  out["loading"] = std::move(progress);
  HttpResponse response = reply(out);
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

MemoryParts planned_memory(const Served& served, const EngineStatus& status) {
  return served.device() == Device::cpu ? served.facts().planned
                                        : MemoryParts::of(status.memory.planned);
}

json::object describe_memory(const EngineStatus::Memory& memory, const MemoryParts& planned,
                             int64_t used) {
  json::array conceded;
  for (const Concession& one : memory.conceded) {
    conceded.push_back({{"what", name(one.what)},
                        {"from", one.from},
                        {"to", one.to},
                        {"while", one.in_step ? "computing" : "loading"},
                        {"needed", one.needed},
                        {"available", one.available}});
  }
  return {{"used", used},
          {"planned", planned.total()},
          {"weights", planned.weights},
          {"kv", planned.kv},
          {"workspace", planned.workspace},
          {"program", planned.program},
          {"budget", memory.budget ? json::value(memory.budget) : json::value(nullptr)},
          {"shortages", memory.shortages},
          {"last_shortage", or_null(memory.last_shortage)},
          {"conceded", std::move(conceded)}};
}

std::string failure(const EngineStatus& engine, const ResponseStore::Status& kept) {
  if (!kept.last_error.empty())
    return fmt::format("responses are not stored: {}", printable(kept.last_error));
  if (!engine.last_failure.empty()) return printable(engine.last_failure);
  return engine.memory.conceded.empty() ? "" : printable(engine.memory.last_shortage);
}

Answer health(Call& call) {
  const auto served = call.api.served_or_null();
  json::object out{{"status", "loading"},
                   {"version", version()},
                   {"uptime_seconds", static_cast<int64_t>(call.api.uptime())}};
  if (!served) return while_loading(call.api.loading(), std::move(out));

  const EngineStatus status = served->engine().status();
  const std::string wrong = failure(status, call.api.store().status());
  out["status"] = status.draining ? "draining" : wrong.empty() ? "ready" : "degraded";
  if (!wrong.empty()) out["last_failure"] = wrong;
  const Config& config = served->model().config();
  const ModelFacts& facts = served->facts();
  const bool on_cpu = served->device() == Device::cpu;
  const int64_t resident = resident_bytes();
  const MemoryParts planned = planned_memory(*served, status);
  out["model"] = served->name();
  out["model_sha256"] = or_null(served->sha256());
  out["architecture"] = config.architecture;
  out["quant_kind"] = facts.quant_kind;
  out["resident"] = resident;
  out["device"] = on_cpu ? "cpu" : "cuda";
  // A GPU's is taken as planned, at once; the CPU's as it is needed.
  out["device_memory"] =
      describe_memory(status.memory, planned, on_cpu ? resident : planned.total());
  out["gpu"] = or_null(facts.gpu);
  out["compute_capability"] = or_null(facts.capability);
  out["cuda_version"] = or_null(facts.cuda);
  out["chat_format"] = chat_format(*served);
  out["tokenizer"] = served->tokenizer()->kind();
  out["vocabulary"] = config.vocabulary;
  out["context_length"] = status.context;
  out["requests"] = {{"running", status.running}, {"queued", status.queued}};
  HttpResponse response = reply(out);
  if (status.draining) response.status = 503;
  return response;
}

}  // namespace mxgpt::server
