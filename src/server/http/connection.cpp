// Dispatch: from a parsed request to the handler and back.
#include "server/http/connection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/rand.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <new>
#include <utility>

#include "base/log.h"

namespace mxgpt::server {

namespace net = boost::asio;
using boost::system::error_code;

namespace {

std::string new_request_id() {
  unsigned char bytes[12];
  RAND_bytes(bytes, sizeof bytes);
  return fmt::format("req_{:02x}", fmt::join(bytes, ""));
}

}  // namespace

Connection::Connection(const ConnectionContext& context, std::unique_ptr<Stream> stream)
    : context_(context),
      stream_(std::move(stream)),
      deadline_(stream_->socket().get_executor(), [this] { close(); }),
      wake_timer_(stream_->socket().get_executor()) {}

void Connection::drain() {
  net::post(stream_->socket().get_executor(), [self = shared_from_this()] {
    if (self->idle_) self->close();
  });
}

void Connection::drop() {
  net::post(stream_->socket().get_executor(), [self = shared_from_this()] { self->close(); });
}

/// Pending reads and writes fail.
void Connection::close() {
  error_code ignored;
  stream_->socket().close(ignored);
}

net::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  deadline_.start(weak_from_this());
  try {
    deadline_.set(context_.options.header_timeout);
    const error_code error = co_await stream_->handshake();
    if (!error) co_await serve();
  } catch (const std::exception& e) {
    log::error("connection dropped: {}", e.what());
  }
  request_active_ = false;
  lease_.reset();
  deadline_.stop();
  close();
}

net::awaitable<void> Connection::serve() {
  while (co_await wait_for_request()) {
    idle_ = false;
    const bool keep_open = co_await serve_request();
    idle_ = true;
    request_active_ = false;
    if (!keep_open || disconnected_ || context_.draining) break;
  }
  if (!disconnected_) co_await linger();
}

/// Returns whether the connection can serve another request.
net::awaitable<bool> Connection::serve_request() {
  const auto started_at = Clock::now();
  RequestParser parser(context_.options.max_header_bytes, context_.body_budget);
  const bool has_header = co_await read_header(parser);
  if (!has_header) co_return false;
  head_ = std::move(parser.head());
  head_.id = new_request_id();
  error_code ignored;
  const auto remote = stream_->socket().remote_endpoint(ignored);
  if (!ignored) head_.remote_address = remote.address().to_string();
  is_head_method_ = parser.is_head_method();
  is_http10_ = parser.is_http10();
  log_entry_ = {.head = &head_};
  const bool keep_open = co_await process(parser);
  lease_.reset();
  log_entry_.seconds = std::chrono::duration<double>(Clock::now() - started_at).count();
  context_.handler.log(log_entry_);
  co_return keep_open;
}

net::awaitable<bool> Connection::process(RequestParser& parser) {
  const HttpOptions& options = context_.options;
  if (const auto& failure = parser.failure())
    co_return co_await refuse(failure->status, failure->message);
  auto admitted = context_.handler.admit(head_);
  if (auto* refusal = std::get_if<HttpResponse>(&admitted)) {
    const bool keep_open = !parser.has_body() && parser.keep_alive();
    const bool sent = co_await send_response(std::move(*refusal), keep_open);
    co_return sent&& keep_open;
  }
  auto& admission = std::get<Handler::Admission>(admitted);
  log_entry_.client = admission.client;
  lease_ = std::move(admission.lease);

  parser.accept_body(admission.takes_body ? options.max_body_bytes : 0);
  if (!parser.failure() && !parser.is_complete()) {
    const bool received = co_await read_body(parser);
    if (!received) co_return client_disconnected();
  }
  if (const auto& failure = parser.failure())
    co_return co_await refuse(failure->status, failure->message);

  const bool keep_alive = parser.keep_alive() && !context_.draining;
  deadline_.clear();
  request_active_ = true;
  start_read();
  HttpRequest request{head_, admission.client, parser.take_body()};
  const auto call = call_handler(std::move(request));
  while (!call->done) co_await sleep_until(Clock::time_point::max());
  parser.release_body_budget();
  const bool sent = co_await send_result(std::move(call->result), keep_alive);
  co_return sent&& keep_alive;
}

/// Runs the handler on a worker: tokenizing and compiling grammars must not delay other
/// connections.
std::shared_ptr<Connection::Call> Connection::call_handler(HttpRequest request) {
  const auto call = std::make_shared<Call>();
  call->request = std::move(request);
  net::post(context_.workers, [self = shared_from_this(), call] {
    Handler& handler = self->context_.handler;
    try {
      call->result = handler.handle(std::move(call->request));
    } catch (const std::bad_alloc&) {
      call->result = handler.transport_error(self->head_, 503, "the server is out of memory");
    } catch (const std::exception& e) {
      log::error("{} {}: {}", self->head_.method, self->head_.path, e.what());
      call->result =
          handler.transport_error(self->head_, 500, "internal server error (see the server log)");
    }
    call->request = {};
    net::post(self->stream_->socket().get_executor(), [self, call] {
      call->done = true;
      self->wake();
    });
  });
  return call;
}

/// The rest of the request is not read, so the connection cannot be used again.
net::awaitable<bool> Connection::refuse(int status, const std::string& message) {
  HttpResponse response = context_.handler.transport_error(head_, status, message);
  if (status == 503) response.headers.emplace_back("retry-after", "1");
  co_await send_response(std::move(response), false);
  co_return false;
}

/// Records that the client has not received its response.
bool Connection::client_disconnected() {
  disconnected_ = true;
  log_entry_.status = 499;
  return false;
}

void Connection::wake() {
  wake_pending_ = true;
  wake_timer_.cancel();
}

/// Returns early after wake(), and may return early without one.
net::awaitable<void> Connection::sleep_until(Clock::time_point until) {
  if (!wake_pending_) {
    wake_timer_.expires_at(until);
    co_await wake_timer_.async_wait(net::as_tuple(net::use_awaitable));
  }
  wake_pending_ = false;
}

}  // namespace mxgpt::server
