// Writing: responses, whole or as server-sent events.
#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <boost/beast/http/status.hpp>
#include <iterator>
#include <utility>

#include "server/http/connection.h"

namespace mxgpt::server {

namespace net = boost::asio;

namespace {

/// Events that become ready within this time of each other are sent together. A fast model samples
/// tokens faster than a thread can wake up and send each one.
constexpr std::chrono::milliseconds kCoalesceInterval{20};

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value)
    if (static_cast<unsigned char>(c) >= ' ') out += c;  // a value cannot begin another header
  out += "\r\n";
}

}  // namespace

net::awaitable<bool> Connection::send_result(HandlerResult result, bool keep_alive) {
  if (disconnected_) co_return client_disconnected();
  if (auto* response = std::get_if<HttpResponse>(&result))
    co_return co_await send_response(std::move(*response), keep_alive);
  if (auto* events = std::get_if<std::unique_ptr<EventStream>>(&result))
    co_return co_await send_events(**events, keep_alive);
  auto& pending = *std::get<std::unique_ptr<UnaryResponse>>(result);
  pending.on_ready(make_wake_callback());
  while (!disconnected_) {
    if (auto response = pending.poll())
      co_return co_await send_response(std::move(*response), keep_alive);
    co_await wait_for_output(pending, Clock::time_point::max());
  }
  co_return client_disconnected();
}

/// Everything up to the header that frames the body.
std::string Connection::response_head(const HttpResponse& response, bool keep_alive) {
  log_entry_.status = response.status;
  const auto status = static_cast<boost::beast::http::status>(response.status);
  const auto reason = boost::beast::http::obsolete_reason(status);
  std::string out = fmt::format("HTTP/1.{} {} {}\r\n", is_http10_ ? 0 : 1, response.status,
                                std::string_view(reason.data(), reason.size()));
  append_header(out, "Content-Type", response.content_type);
  append_header(out, "X-Request-Id", head_.id);
  if (keep_alive == is_http10_)
    append_header(out, "Connection", keep_alive ? "keep-alive" : "close");
  for (const auto& [name, value] : response.headers) append_header(out, name, value);
  const std::string& allowed = context_.options.cors_origin;
  if (!allowed.empty() && (allowed == "*" || head_.header("origin") == allowed)) {
    append_header(out, "Access-Control-Allow-Origin", allowed);
    append_header(out, "Access-Control-Allow-Headers",
                  "authorization, content-type, x-api-key, anthropic-version");
    append_header(out, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    append_header(out, "Vary", "origin");
  }
  return out;
}

net::awaitable<bool> Connection::send_response(HttpResponse response, bool keep_alive) {
  lease_.reset();
  log_entry_.body_bytes = static_cast<int64_t>(response.body.size());
  std::string head = response_head(response, keep_alive);
  if (response.status != 204)
    append_header(head, "Content-Length", std::to_string(response.body.size()));
  head += "\r\n";
  if (is_head_method_) response.body.clear();
  const bool written = co_await write(head, response.body);
  co_return written || client_disconnected();
}

net::awaitable<bool> Connection::send_events(EventStream& events, bool keep_alive) {
  const bool chunked = !is_http10_;
  std::string head = response_head({.content_type = "text/event-stream"}, keep_alive && chunked);
  append_header(head, "Cache-Control", "no-cache");
  append_header(head, "X-Accel-Buffering", "no");  // nginx would buffer events
  if (chunked) append_header(head, "Transfer-Encoding", "chunked");
  head += "\r\n";
  bool written = co_await write(head);
  events.on_ready(make_wake_callback());
  std::string bytes;
  auto next_ping = Clock::now() + context_.options.sse_ping_interval;
  bool more = true;
  while (more && written && !disconnected_) {
    bytes.clear();
    more = events.poll(bytes);
    if (!more) lease_.reset();
    // Proxies and clients close connections that stay silent.
    if (bytes.empty() && more && Clock::now() >= next_ping) bytes = ": keep-alive\n\n";
    if (!bytes.empty()) {
      log_entry_.body_bytes += static_cast<int64_t>(bytes.size());
      next_ping = Clock::now() + context_.options.sse_ping_interval;
      if (chunked) {
        const std::string size = fmt::format("{:x}\r\n", bytes.size());
        bytes += "\r\n";
        written = co_await write(size, bytes);
      } else {
        written = co_await write(bytes);
      }
    }
    if (more && written) co_await wait_for_output(events, next_ping);
  }
  if (!more && written && chunked) written = co_await write("0\r\n\r\n");
  if (!written || more) co_return client_disconnected();
  co_return !disconnected_ && chunked;
}

net::awaitable<bool> Connection::write(std::string_view first, std::string_view second) {
  deadline_.set(context_.options.write_timeout);
  const auto error = co_await stream_->write(first, second);
  if (request_active_) deadline_.clear();
  co_return !error;
}

/// Waits until poll() may have more, at most until then. While the response makes progress, waits
/// for kCoalesceInterval; its end and a disconnect cut that short.
net::awaitable<void> Connection::wait_for_output(const DeferredResponse& response,
                                                 Clock::time_point until) {
  coalescing_ = response.made_progress();
  co_await sleep_until(coalescing_ ? Clock::now() + kCoalesceInterval : until);
  coalescing_ = false;
}

std::function<void(bool)> Connection::make_wake_callback() {
  return [weak = weak_from_this()](bool ended) {
    const auto self = weak.lock();
    if (!self || (self->coalescing_ && !ended)) return;
    net::post(self->stream_->socket().get_executor(), [self] { self->wake(); });
  };
}

}  // namespace mxgpt::server
