// HTTP/1.1 over TCP or TLS, on a few threads for any number of connections.
//
// Every resource that a client controls is bounded: header and body bytes, time to send a request
// and to accept a response, connections. A client that disconnects cancels its request.
#pragma once

#include <chrono>
#include <memory>

#include "server/http/http.h"
#include "server/http/http_options.h"

namespace mxgpt::server {

class HttpServer {
 public:
  /// Binds the address and starts serving. Throws Error if the address or the certificate cannot be
  /// used. The handler must outlive the server.
  HttpServer(Handler& handler, const HttpOptions& options);
  /// Drops the remaining connections.
  ~HttpServer();

  uint16_t port() const;
  int64_t connection_count() const;
  /// Memory of the request bodies being received or parsed.
  size_t body_bytes() const;

  /// Accepts no more connections; open ones close once their response has been sent.
  void stop_accepting();
  /// After stop_accepting(): waits until all connections have closed or `deadline` passes. Returns
  /// whether all have.
  bool wait_until_drained(std::chrono::steady_clock::time_point deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxgpt::server
