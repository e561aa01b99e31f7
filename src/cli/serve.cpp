// `mxgpt serve`: the HTTP server.
#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <thread>

#include "base/cpu_count.h"
#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "server/api/api_server.h"
#include "server/http/http_server.h"

namespace mxgpt::cli {

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelOption model;
  DeviceOption device;
  server::ServedModelOptions served_model;
  server::HttpOptions http;
  server::ClientLimits key_limits;
  server::StoreOptions store;
  std::string api_keys;
  bool share_prefix_cache = false;
  int64_t timeout = 0, shutdown_timeout = 30;  // seconds
};

/// Each thread of glibc's allocator has an arena of its own, which keeps the most that it ever
/// held: a server would grow for as long as its threads meet work that they have not had yet.
void limit_malloc_arenas() {
#ifdef M_ARENA_MAX
  mallopt(M_ARENA_MAX, 2);
#endif
}

/// Its threads inherit that these signals are blocked, and sigtimedwait() takes them.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  return signals;
}

std::string url_of(const server::HttpOptions& http, uint16_t port) {
  const bool is_v6 = http.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", http.tls_key.empty() ? "http" : "https", is_v6 ? "[" : "",
                     http.host, is_v6 ? "]" : "", port);
}

/// Opens the model on a thread of its own, so that the server can say how far it is.
class Loader {
 public:
  Loader(server::ApiServer& api, const Options& options, const std::string& url)
      : thread_([this, &api, &options, url] {
          try {
            auto served_model = std::make_shared<const server::ServedModel>(options.model.open(),
                                                                            options.served_model);
            api.set_served_model(served_model);
            fmt::print("{} on {}\n", served_model->name(), url);
            std::fflush(stdout);
          } catch (...) {
            failure_ = std::current_exception();
            has_failed_ = true;
            kill(getpid(), SIGTERM);  // which serve_model() waits for
          }
        }) {}

  void rethrow_failure() const {
    if (has_failed_) std::rethrow_exception(failure_);
  }

 private:
  std::exception_ptr failure_;
  std::atomic<bool> has_failed_ = false;
  std::jthread thread_;
};

int serve_model(Options& options) {
  if (options.http.tls_certificate.empty() != options.http.tls_key.empty())
    throw Error("--tls-cert", "needs --tls-key beside it, and the other way round");
  limit_malloc_arenas();
  const sigset_t signals = block_signals();
  server::ApiKeys keys = options.api_keys.empty()
                             ? server::ApiKeys(options.key_limits)
                             : server::ApiKeys(options.api_keys, options.key_limits);
  const bool is_local = options.http.host == "127.0.0.1" || options.http.host == "localhost" ||
                        options.http.host == "::1";
  server::ApiServer api(std::move(keys),
                        {.request_timeout = std::chrono::seconds(options.timeout),
                         .origin_policy = {.cors_origin = options.http.cors_origin,
                                           .loopback_only = is_local && options.api_keys.empty()},
                         .store = options.store,
                         .share_prefix_cache = options.share_prefix_cache});
  options.served_model.engine.device = options.device.device;
  options.served_model.engine.vram_budget = options.device.vram_budget;
  options.served_model.engine.no_offload = options.device.no_offload;
  options.served_model.engine.preallocate_kv = true;  // what serves for days does not find out late
  options.served_model.sha256 = options.model.expected_sha256;
  if (usable_cpus() > 4) options.http.io_threads = 2;
  server::HttpServer http(api, options.http);
  set_progress_listener([&api](const std::string& doing, uint64_t done, uint64_t total) {
    api.set_load_progress({doing, done, total});
  });
  if (!is_local && options.api_keys.empty())
    spdlog::warn("everybody who reaches {} may use this server: it has no --api-keys",
                 options.http.host);
  const std::string url = url_of(options.http, http.port());
  spdlog::info("listening on {}, the model is loading", url);
  const Loader loader(api, options, url);

  int signal = 0;
  sigwait(&signals, &signal);
  loader.rethrow_failure();
  const auto served_model = api.served_model_or_null();
  if (!served_model) _exit(128 + signal);  // nothing is in work, and loading cannot be broken off
  spdlog::info("shutting down: answers in work have {} s", options.shutdown_timeout);
  const auto deadline = Clock::now() + std::chrono::seconds(options.shutdown_timeout);
  http.stop_accepting();
  // A second signal ends it at once.
  std::jthread second_signal_watcher([&](const std::stop_token& stop) {
    const timespec poll_interval{0, 100'000'000};
    while (!stop.stop_requested()) {
      if (sigtimedwait(&signals, nullptr, &poll_interval) > 0) _exit(128 + signal);
    }
  });
  served_model->engine().drain(deadline);
  // What the engine has ended is still being written.
  if (!http.wait_until_drained(std::max(deadline, Clock::now() + std::chrono::seconds(2))))
    spdlog::warn("{} connections were dropped", http.connection_count());
  return kOk;
}

}  // namespace

std::function<int()> serve(CLI::App& command) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  command.footer(
      "Examples:\n"
      "  mxgpt serve                                the shipped model on port 8080\n"
      "  mxgpt serve -m gpt-oss-20b.gguf --host 0.0.0.0 --api-keys keys.txt\n"
      "docs/serving.md tells how to use it.");
  o.model.declare(command);
  const auto number = [&](const char* name, auto& value, const char* help, const char* group,
                          int64_t low = 0) {
    command.add_option(name, value, help)
        ->check(CLI::Range(low, int64_t{1} << 40).description(""))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  const auto text = [&](const char* name, auto& value, const char* help, const char* type,
                        const char* group) {
    command.add_option(name, value, help)->type_name(type)->capture_default_str()->group(group);
  };
  text("--name", o.served_model.name, "What clients call the model (default: its file's name)",
       "NAME", "Model");
  number("--ctx", o.served_model.engine.context,
         "Longest prompt with its answer, in tokens; 0: the model's, at most 32768", "Model");
  number("--sequences", o.served_model.engine.max_sequences,
         "Answers in work at once; others queue", "Model", 1);
  number("--kv-tokens", o.served_model.engine.kv_tokens,
         "Tokens that the KV cache holds in all; 0: 65536, or the context if longer", "Model");
  number("--queue", o.served_model.engine.max_queue, "Answers that may wait", "Model", 1);
  o.device.declare(command);
  declare_precision(command, o.served_model.engine.precision);
  declare_kv(command, o.served_model.engine.kv_format);
  declare_accumulate(command, o.served_model.engine.accum_type);
  text("--host", o.http.host, "Address to listen at; 0.0.0.0 for all", "ADDRESS", "Network");
  command.add_option("--port", o.http.port, "Port to listen at; 0: any")
      ->type_name("N")
      ->capture_default_str()
      ->group("Network");
  text("--tls-cert", o.http.tls_certificate, "Certificate chain, PEM", "FILE", "Network");
  text("--tls-key", o.http.tls_key, "Its key, PEM", "FILE", "Network");
  text("--cors-origin", o.http.cors_origin, "Web pages that may call: their origin, or *", "ORIGIN",
       "Network");
  number("--connections", o.http.max_connections, "Open at once", "Limits", 1);
  number("--max-body", o.http.max_body_bytes, "Bytes of a request", "Limits", 1024);
  text("--api-keys", o.api_keys, "A key a line: NAME KEY [REQUESTS-PER-MINUTE [CONCURRENT]]",
       "FILE", "Limits");
  command
      .add_flag("--share-prefix-cache", o.share_prefix_cache,
                "Share cached prompts between API keys (one key can then tell what others sent)")
      ->group("Limits");
  number("--rate", o.key_limits.requests_per_minute, "Requests a minute of a key; 0: any number",
         "Limits");
  number("--concurrent", o.key_limits.concurrent_requests,
         "Requests in work of a key; 0: any number", "Limits");
  number("--timeout", o.timeout, "Seconds that an answer may take; 0: any", "Limits");
  number("--drain", o.shutdown_timeout, "Seconds for answers in work when told to stop", "Limits");
  text("--store", o.store.file,
       "Keep responses in this file, so that they outlive the server (default: in memory)", "FILE",
       "Responses");
  number("--stored", o.store.max_count, "Responses kept; the longest unused go first", "Responses",
         1);
  number("--stored-bytes", o.store.max_bytes, "Bytes of them", "Responses", 1024);
  return [options] { return serve_model(*options); };
}

}  // namespace mxgpt::cli
