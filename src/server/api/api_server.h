// Request handler of the HTTP server: API keys, rate limits, dispatch to the routes, errors.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "server/api/metrics.h"
#include "server/api/route.h"
#include "server/api/served_model.h"
#include "server/auth/api_keys.h"
#include "server/auth/cors.h"
#include "server/store/response_store.h"

namespace mxgpt::server {

struct ApiServerOptions {
  std::chrono::seconds request_timeout{0};  ///< from a request to the end of its response; 0: none
  OriginPolicy origin_policy;
  StoreOptions store;
  bool share_prefix_cache = false;  ///< between API keys; reveals to one what others have sent
};

class ApiServer : public Handler {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws Error if the response store cannot be opened.
  explicit ApiServer(ApiKeys keys, const ApiServerOptions& options = {})
      : api_keys_(std::move(keys)),
        request_timeout_(options.request_timeout),
        origin_policy_(options.origin_policy),
        share_prefix_cache_(options.share_prefix_cache),
        store_(options.store) {}

  /// Progress of loading the model.
  struct LoadProgress {
    std::string phase;  ///< "Reading"; empty: no long operation is running
    uint64_t done = 0, total = 0;
  };
  void set_load_progress(LoadProgress progress);
  LoadProgress load_progress() const;
  /// Until it is called, requests that need the model get a 503.
  void set_served_model(std::shared_ptr<const ServedModel> served);

  std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) override;
  HandlerResult handle(HttpRequest request) override;
  HttpResponse transport_error(const HttpRequestHead& head, int status,
                               const std::string& message) override;
  void log(const AccessLogEntry& entry) override;

  /// Null while the model loads.
  std::shared_ptr<const ServedModel> served_model_or_null() const;
  /// Throws ApiError, a 503, while the model loads.
  std::shared_ptr<const ServedModel> served_model() const;
  /// The same; throws a 404 if the request names another model.
  std::shared_ptr<const ServedModel> served_model(const json::Node& body) const;

  ResponseStore& store() { return store_; }
  Metrics& metrics() { return metrics_; }
  double uptime() const;
  std::optional<Clock::time_point> request_deadline() const;
  /// Prompts of a client reuse cached prefixes with the same salt only. With API keys every client
  /// has its own: cached_tokens and latency would otherwise reveal the prompts of others.
  std::string cache_salt(const std::string& client) const;

 private:
  const ApiKeys api_keys_;
  const std::chrono::seconds request_timeout_;
  const OriginPolicy origin_policy_;
  const bool share_prefix_cache_;
  ResponseStore store_;
  const Clock::time_point started_ = Clock::now();
  Metrics metrics_;
  mutable std::mutex mutex_;  // guards the members below
  LoadProgress load_progress_;
  std::shared_ptr<const ServedModel> served_model_;
};

}  // namespace mxgpt::server
