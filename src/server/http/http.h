// Interface between the HTTP transport and the request handlers. No sockets here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mxgpt::server {

/// A request without its body.
struct HttpRequestHead {
  std::string id;              ///< assigned here; for logs and the header x-request-id
  std::string method;          ///< "GET"; HEAD is reported as GET
  std::string path;            ///< without the query
  std::string query;           ///< after the first '?', still encoded
  std::string remote_address;  ///< of the client
  std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case

  /// Empty if the header is absent.
  std::string_view header(std::string_view name) const;
};

struct HttpRequest {
  HttpRequestHead head;
  std::string client;  ///< name of the client, from Handler::Admission
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

/// A response that is still being computed. Used by one thread at a time; destroying it cancels the
/// work.
class DeferredResponse {
 public:
  virtual ~DeferredResponse() = default;
  /// `ready` is called, from any thread, whenever poll() may have new output, and at once if it
  /// already has. With `ended`, no call follows. `ready` returns quickly and never throws.
  virtual void on_ready(std::function<void(bool ended)> ready) = 0;
  /// Whether the last poll() found new output, so that more may follow soon.
  virtual bool made_progress() const = 0;
};

/// A response that is sent once it is complete.
class UnaryResponse : public DeferredResponse {
 public:
  /// Returns nothing until the response is complete.
  virtual std::optional<HttpResponse> poll() = 0;
};

/// Server-sent events. poll() is only called after its previous output has been written, so a
/// stalled client cannot make a buffer grow.
class EventStream : public DeferredResponse {
 public:
  /// Appends the available events, framed. Returns false if none follow them.
  virtual bool poll(std::string& out) = 0;
};

using HandlerResult =
    std::variant<HttpResponse, std::unique_ptr<UnaryResponse>, std::unique_ptr<EventStream>>;

/// One line of the access log. Never contains request or response text.
struct AccessLogEntry {
  const HttpRequestHead* head = nullptr;
  std::string client;      ///< name of the API key; empty: none
  int status = 0;          ///< 499: the client disconnected first
  int64_t body_bytes = 0;  ///< of the response
  double seconds = 0;
};

/// The routes. Called from several threads at once.
class Handler {
 public:
  struct Admission {
    std::shared_ptr<void> lease;  ///< held while the request is active; released before the last
                                  ///< bytes are sent, so that a client may send its next request
    std::string client;           ///< name of the API key; empty: none
    bool takes_body = true;       ///< without: a body is refused with a 413
  };

  virtual ~Handler() = default;
  /// Decides from the headers, before the body is read: a refusal (unknown route, missing key, rate
  /// limit) or an admission.
  virtual std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) = 0;
  /// Any exception is a defect and becomes a 500; std::bad_alloc becomes a 503.
  virtual HandlerResult handle(HttpRequest request) = 0;
  /// An error that the transport reports, in the error format of the route. `head` holds the fields
  /// that could be read.
  virtual HttpResponse transport_error(const HttpRequestHead& head, int status,
                                       const std::string& message) = 0;
  virtual void log(const AccessLogEntry& entry) = 0;
};

}  // namespace mxgpt::server
