// What the two halves of the server say to each other: http_server.h reads requests and writes
// answers, the routes make them. No sockets here.
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
  std::string id;              ///< ours, for logs and the header x-request-id
  std::string method;          ///< "GET"; HEAD comes as GET
  std::string path;            ///< without the query
  std::string query;           ///< what comes after the first '?', as it was sent
  std::string remote_address;  ///< address of the client
  std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case

  /// Empty if there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpRequest {
  HttpRequestHead head;
  std::string client;  ///< as admitted
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

/// An answer in work. Used by one thread at a time; letting go of it cancels the work.
class DeferredResponse {
 public:
  virtual ~DeferredResponse() = default;
  /// `ready` is called, from any thread, whenever poll() may have something new, and at once if it
  /// has. `ended`: nothing comes after that. It returns quickly and never throws.
  virtual void on_ready(std::function<void(bool ended)> ready) = 0;
  /// Whether the last poll() found something new, so that more may come soon.
  virtual bool made_progress() const = 0;
};

/// An answer that is sent in one piece.
class UnaryResponse : public DeferredResponse {
 public:
  /// Nothing until it is complete.
  virtual std::optional<HttpResponse> poll() = 0;
};

/// Server-sent events. poll() is called again only when what it gave has been written, so a stalled
/// reader makes nothing grow here.
class EventStream : public DeferredResponse {
 public:
  /// Appends the events that there are, framed; false when nothing comes after them.
  virtual bool poll(std::string& out) = 0;
};

using HandlerResult =
    std::variant<HttpResponse, std::unique_ptr<UnaryResponse>, std::unique_ptr<EventStream>>;

/// One line of the request log; never what was said.
struct AccessLogEntry {
  const HttpRequestHead* head = nullptr;
  std::string client;      ///< name of the key; empty: none
  int status = 0;          ///< 499: the client vanished
  int64_t body_bytes = 0;  ///< of the answer's body
  double seconds = 0;
};

/// The routes. Called from several threads at once.
class Handler {
 public:
  struct Admission {
    std::shared_ptr<void> lease;  ///< given back before the last of the answer is sent: who has
                                  ///< read it may ask again
    std::string client;           ///< for the log
  };

  virtual ~Handler() = default;
  /// Before the body is read: a refusal (no such route, no key, too many requests), or what is held
  /// while the request is in work.
  virtual std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) = 0;
  /// Throws nothing but what is a defect, which becomes a 500.
  virtual HandlerResult handle(HttpRequest request) = 0;
  /// A refusal by the HTTP half itself, in the route's shape; `head` is what could be read.
  virtual HttpResponse transport_error(const HttpRequestHead& head, int status,
                                       const std::string& message) = 0;
  virtual void log(const AccessLogEntry& record) = 0;
};

}  // namespace mxgpt::server
