// Parses one HTTP/1.1 request from bytes as they arrive. Bounded in memory whatever the client
// sends.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/body_budget.h"
#include "server/http/http.h"

namespace mxgpt::server {

/// Size of chunk extensions accepted per chunk; they have no meaning here.
inline constexpr size_t kMaxChunkExtensionBytes = 1024;

class RequestParser {
 public:
  /// A request that cannot be accepted. The connection cannot be used any more.
  struct Failure {
    int status;
    std::string message;
  };

  RequestParser(size_t max_header_bytes, BodyBudget& budget);
  ~RequestParser();

  /// Parses the first bytes and returns how many are done with; the others must be passed again,
  /// followed by more. Before accept_body(), stops behind the headers.
  size_t parse(std::string_view bytes);
  /// Accepts a body of at most `max_bytes`. Called once, when has_header().
  void accept_body(size_t max_bytes);

  bool has_header() const;
  bool is_complete() const;
  const std::optional<Failure>& failure() const;

  /// The fields known so far; id and remote_address are the caller's.
  HttpRequestHead& head();
  bool is_head_method() const;  ///< head().method says GET
  bool is_http10() const;
  // Valid when has_header():
  bool keep_alive() const;
  bool has_body() const;
  bool expects_continue() const;

  std::string take_body();
  /// Returns the body's share of the budget, once its memory has been freed.
  void release_body_budget();
  /// Ends parsing for a reason that only the caller can see.
  void fail(int status, std::string message);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxgpt::server
