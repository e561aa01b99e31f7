// `mxgpt serve`: the HTTP server.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <thread>

#include "base/cpu_count.h"
#include "base/error.h"
#include "base/log.h"
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

/// Limits glibc to two malloc arenas. Each arena stays at its high-water mark, so one per thread
/// would let the resident size grow for a long time.
void limit_malloc_arenas() {
#ifdef M_ARENA_MAX
  mallopt(M_ARENA_MAX, 2);
#endif
}

/// Blocks the signals that sigwait() receives. Threads inherit the mask.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error, like a full disk
  return signals;
}

std::string url_of(const server::HttpOptions& http, uint16_t port) {
  const bool is_v6 = http.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", http.tls_key.empty() ? "http" : "https", is_v6 ? "[" : "",
                     http.host, is_v6 ? "]" : "", port);
}

/// Loads the model on its own thread, so that the server can report progress.
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
            kill(getpid(), SIGTERM);  // wakes serve_model()
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
    throw Error("--tls-cert", "and --tls-key must be given together");
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
  options.served_model.engine.preallocate_kv = true;  // so that lack of memory shows at startup
  options.served_model.sha256 = options.model.expected_sha256;
  if (usable_cpus() > 4) options.http.io_threads = 2;
  server::HttpServer http(api, options.http);
  set_progress_listener([&api](const std::string& doing, uint64_t done, uint64_t total) {
    api.set_load_progress({doing, done, total});
  });
  if (!is_local && options.api_keys.empty())
    log::warn("no --api-key-file: anyone who can reach {} can use this server", options.http.host);
  const std::string url = url_of(options.http, http.port());
  log::info("listening on {}; loading the model", url);
  const Loader loader(api, options, url);

  int signal = 0;
  sigwait(&signals, &signal);
  loader.rethrow_failure();
  const auto served_model = api.served_model_or_null();
  if (!served_model)
    _exit(128 + signal);  // no requests are running, and loading cannot be cancelled
  log::info("shutting down; running requests have {} s to finish", options.shutdown_timeout);
  const auto deadline = Clock::now() + std::chrono::seconds(options.shutdown_timeout);
  http.stop_accepting();
  // A second signal exits immediately.
  std::jthread second_signal_watcher([&](const std::stop_token& stop) {
    const timespec poll_interval{0, 100'000'000};
    while (!stop.stop_requested()) {
      if (sigtimedwait(&signals, nullptr, &poll_interval) > 0) _exit(128 + signal);
    }
  });
  served_model->engine().drain(deadline);
  // Responses may still be in transit.
  if (!http.wait_until_drained(std::max(deadline, Clock::now() + std::chrono::seconds(2))))
    log::warn("{} connections were dropped", http.connection_count());
  return kOk;
}

}  // namespace

std::function<int()> serve(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  command.footer(
      "Examples:\n"
      "  mxgpt serve                                serve the shipped model on port 8080\n"
      "  mxgpt serve -m gpt-oss-20b.gguf --host 0.0.0.0 --api-key-file keys.txt\n"
      "docs/serving.md describes the API.");
  o.model.declare(command);
  const auto number = [&]<class T>(const char* name, T& value, const char* help, const char* group,
                                   int64_t min = 0) {
    constexpr auto kMax =
        static_cast<int64_t>(std::min<uint64_t>(std::numeric_limits<T>::max(), uint64_t{1} << 40));
    command.integer(name, value, static_cast<T>(min), static_cast<T>(kMax), help)
        .default_text(fmt::format("{}", value))
        .group(group);
  };
  const auto text = [&](const char* name, std::string& value, const char* help, const char* metavar,
                        const char* group) {
    command.text(name, value, help).metavar(metavar).default_text(value).group(group);
  };
  const auto path = [&](const char* name, auto& value, const char* help, const char* group) {
    if constexpr (std::is_same_v<decltype(value), std::string&>)
      command.text(name, value, help).metavar("FILE").group(group);
    else
      command.path(name, value, help).group(group);
  };
  text("--served-model-name|--name", o.served_model.name,
       "Model name in the API (default: the model's file name)", "NAME", "Model");
  number("--ctx", o.served_model.engine.context,
         "Context length in tokens; 0: the model's, at most 32768", "Model");
  number("--max-num-seqs|--sequences", o.served_model.engine.max_sequences,
         "Maximum concurrent sequences; further requests are queued", "Model", 1);
  number("--kv-tokens", o.served_model.engine.kv_tokens,
         "KV cache size in tokens, shared by all sequences; 0: the larger of 65536 and --ctx",
         "Model");
  number("--max-queued-requests|--queue", o.served_model.engine.max_queue,
         "Maximum queued sequences; more are rejected with 429", "Model", 1);
  o.device.declare(command);
  declare_precision(command, o.served_model.engine.precision);
  declare_kv(command, o.served_model.engine.kv_format);
  declare_accumulate(command, o.served_model.engine.accum_type);
  text("--host", o.http.host, "Address to bind; 0.0.0.0: all interfaces", "ADDRESS", "Network");
  number("--port", o.http.port, "Port to bind; 0: any free port", "Network");
  path("--tls-cert", o.http.tls_certificate, "TLS certificate chain (PEM)", "Network");
  path("--tls-key", o.http.tls_key, "TLS private key (PEM)", "Network");
  text("--cors-origin", o.http.cors_origin, "Origin allowed by CORS; *: any", "ORIGIN", "Network");
  number("--max-connections|--connections", o.http.max_connections, "Maximum open connections",
         "Limits", 1);
  number("--max-body", o.http.max_body_bytes, "Maximum request body in bytes", "Limits", 1024);
  path("--api-key-file|--api-keys", o.api_keys,
       "File of API keys, one `NAME KEY [REQUESTS-PER-MINUTE [CONCURRENT]]` per line", "Limits");
  command
      .flag("--share-prefix-cache", o.share_prefix_cache,
            "Share cached prompts between API keys; keys can then probe what others sent")
      .group("Limits");
  number("--rate-limit|--rate", o.key_limits.requests_per_minute,
         "Requests per minute per key; 0: no limit", "Limits");
  number("--max-concurrent-requests|--concurrent", o.key_limits.concurrent_requests,
         "Concurrent requests per key; 0: no limit", "Limits");
  number("--request-timeout|--timeout", o.timeout, "Seconds per request; 0: no limit", "Limits");
  number("--shutdown-timeout|--drain", o.shutdown_timeout,
         "Grace period for running requests on shutdown (seconds)", "Limits");
  path("--response-store|--store", o.store.file,
       "SQLite file for stored responses, so that they survive a restart (default: in memory)",
       "Responses");
  number("--max-stored-responses|--stored", o.store.max_count,
         "Maximum stored responses; the least recently used are dropped", "Responses", 1);
  number("--max-stored-bytes|--stored-bytes", o.store.max_bytes,
         "Maximum total size of stored responses in bytes", "Responses", 1024);
  return [options] { return serve_model(*options); };
}

}  // namespace mxgpt::cli
