// HTTP/1.1 over TCP or TLS, on a few threads for any number of connections.
//
// Nothing that a client does takes more than it is given: bytes of headers and bodies, time to send
// and to read them, connections. While an answer is in work its connection is watched: when the
// client goes, the answer is let go of, which cancels its work.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "server/http/http.h"

namespace mxgpt::server {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                            ///< 0: any that is free
  std::filesystem::path tls_certificate, tls_key;  ///< PEM; both or none
  int io_threads = 1;                              ///< with more, each event wakes another one
  int handler_threads = 2;                         ///< that parse, tokenize and compile
  int64_t max_connections = 4096;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 16 << 20;
  std::chrono::milliseconds idle_timeout{75'000};    ///< between requests
  std::chrono::milliseconds header_timeout{10'000};  ///< for all of the headers; TLS handshakes
  std::chrono::milliseconds body_timeout{60'000};    ///< for all of the body
  std::chrono::milliseconds write_timeout{30'000};   ///< for a reader to take what was written
  std::chrono::milliseconds sse_ping_interval{
      15'000};              ///< of silence, after which a stream has a comment
  std::string cors_origin;  ///< that browsers may call from; "*": any; empty: none
};

class HttpServer {
 public:
  /// Binds, and serves at once. Throws Error if the address or the certificate cannot be used. The
  /// handler outlives the server.
  HttpServer(Handler& handler, const HttpOptions& options);
  /// Drops what is left.
  ~HttpServer();

  uint16_t port() const;
  int64_t connection_count() const;

  /// Accepts no more; connections close when their answer has ended.
  void stop_accepting();
  /// After stop_accepting(): waits until no connection is left, at most until `deadline`. Whether
  /// none is.
  bool wait_until_drained(std::chrono::steady_clock::time_point deadline);

 private:
  class Impl;
  class Connection;
  template <typename Stream>
  class ConnectionOf;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxgpt::server
