// The routes behind the HTTP server: keys, limits, dispatch, errors.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "server/keys.h"
#include "server/origin.h"
#include "server/response_store.h"
#include "server/routes.h"

namespace mxgpt::server {

struct ApiOptions {
  std::chrono::seconds deadline{0};  ///< for an answer, from its request; 0: any time
  OriginRules origins;
  StoreOptions store;
};

class Api : public Handler {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws Error if the store of responses cannot be opened.
  explicit Api(Keys keys, const ApiOptions& options = {})
      : keys_(std::move(keys)),
        deadline_(options.deadline),
        origins_(options.origins),
        store_(options.store) {}

  /// How far loading has come.
  struct Loading {
    std::string doing;  ///< "Reading"; empty: nothing that takes long
    uint64_t done = 0, total = 0;
  };
  void set_loading(Loading loading);
  Loading loading() const;
  /// Requests are answered by 503 until the model is there.
  void serve(std::shared_ptr<const Served> served);

  std::variant<HttpResponse, Admission> admit(const HttpHead& head) override;
  Answer handle(HttpRequest request) override;
  HttpResponse error(const HttpHead& head, int status, const std::string& message) override;
  void log(const RequestRecord& record) override;

  /// Null while it loads.
  std::shared_ptr<const Served> served_or_null() const;
  /// Throws ApiError, a 503, while it loads.
  std::shared_ptr<const Served> served() const;
  /// The same, if a request names the model rightly; a 404 if not.
  std::shared_ptr<const Served> served(const json::Node& body) const;

  ResponseStore& store() { return store_; }
  Metrics& metrics() { return metrics_; }
  double uptime() const;
  std::optional<Clock::time_point> deadline() const;
  static std::span<const Route> routes();

 private:
  const Keys keys_;
  const std::chrono::seconds deadline_;
  const OriginRules origins_;
  ResponseStore store_;
  const Clock::time_point started_ = Clock::now();
  Metrics metrics_;
  mutable std::mutex mutex_;  // of all below
  Loading loading_;
  std::shared_ptr<const Served> served_;
};

}  // namespace mxgpt::server
