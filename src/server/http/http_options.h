// Limits and addresses of the HTTP transport.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mxgpt::server {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                            ///< 0: any free port
  std::filesystem::path tls_certificate, tls_key;  ///< PEM; both or neither
  int io_threads = 1;                              ///< more threads only help above four CPUs
  int handler_threads = 2;                         ///< parse, tokenize and compile grammars
  int64_t max_connections = 4096;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 16 << 20;
  size_t max_total_body_bytes = 256 << 20;           ///< of all requests being received or parsed
  std::chrono::milliseconds idle_timeout{75'000};    ///< between requests
  std::chrono::milliseconds header_timeout{10'000};  ///< for all headers; for a TLS handshake
  std::chrono::milliseconds body_timeout{60'000};    ///< for the whole body
  std::chrono::milliseconds write_timeout{30'000};   ///< for the client to accept each write
  std::chrono::milliseconds sse_ping_interval{15'000};  ///< a silent stream sends a comment
  std::string cors_origin;  ///< allowed web origin; "*": any; empty: none
};

}  // namespace mxgpt::server
