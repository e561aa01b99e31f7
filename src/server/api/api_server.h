// The routes behind the HTTP server: keys, limits, dispatch, errors.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "server/api/route.h"
#include "server/auth/api_keys.h"
#include "server/auth/cors.h"
#include "server/store/response_store.h"

namespace mxgpt::server {

struct ApiServerOptions {
  std::chrono::seconds request_timeout{0};  ///< for an answer, from its request; 0: any time
  OriginPolicy origin_policy;
  StoreOptions store;
  bool share_prefix_cache = false;  ///< between API keys; reveals to one what others have sent
};

class ApiServer : public Handler {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws Error if the store of responses cannot be opened.
  explicit ApiServer(ApiKeys keys, const ApiServerOptions& options = {})
      : api_keys_(std::move(keys)),
        request_timeout_(options.request_timeout),
        origin_policy_(options.origin_policy),
        share_prefix_cache_(options.share_prefix_cache),
        store_(options.store) {}

  /// How far loading has come.
  struct LoadProgress {
    std::string phase;  ///< "Reading"; empty: nothing that takes long
    uint64_t done = 0, total = 0;
  };
  void set_load_progress(LoadProgress progress);
  LoadProgress load_progress() const;
  /// Requests are answered by 503 until the model is there.
  void set_served_model(std::shared_ptr<const ServedModel> served);

  std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) override;
  HandlerResult handle(HttpRequest request) override;
  HttpResponse transport_error(const HttpRequestHead& head, int status,
                               const std::string& message) override;
  void log(const AccessLogEntry& record) override;

  /// Null while it loads.
  std::shared_ptr<const ServedModel> served_model_or_null() const;
  /// Throws ApiError, a 503, while it loads.
  std::shared_ptr<const ServedModel> served_model() const;
  /// The same, if a request names the model rightly; a 404 if not.
  std::shared_ptr<const ServedModel> served_model(const json::Node& body) const;

  ResponseStore& store() { return store_; }
  Metrics& metrics() { return metrics_; }
  double uptime() const;
  std::optional<Clock::time_point> request_deadline() const;
  /// Prompts of a client reuse cached prefixes with the same salt only. With API keys every client
  /// has its own: cached_tokens and latency would otherwise reveal the prompts of others.
  std::string cache_salt(const std::string& client) const;
  static std::span<const Route> routes();

 private:
  const ApiKeys api_keys_;
  const std::chrono::seconds request_timeout_;
  const OriginPolicy origin_policy_;
  const bool share_prefix_cache_;
  ResponseStore store_;
  const Clock::time_point started_ = Clock::now();
  Metrics metrics_;
  mutable std::mutex mutex_;  // of all below
  LoadProgress load_progress_;
  std::shared_ptr<const ServedModel> served_model_;
};

}  // namespace mxgpt::server
