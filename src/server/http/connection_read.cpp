// Reading: at most one read is pending, and it is never cancelled, since TLS could not continue.
// While a request is active, reading goes on into a bounded buffer, to notice when the client
// disconnects; the next request starts with the bytes received.
#include <fmt/format.h>

#include <new>

#include "server/http/connection.h"

namespace mxgpt::server {

namespace net = boost::asio;

namespace {

constexpr size_t kReadBytes = 8 << 10;

/// Limits on what is still read after a refusal, so that the client can read the response before
/// the connection is reset (RFC 9112, section 9.6).
constexpr size_t kMaxDiscarded = 4 << 20;
constexpr std::chrono::seconds kLingerTimeout{2};

}  // namespace

/// Waits for the first byte of a request.
net::awaitable<bool> Connection::wait_for_request() {
  const HttpOptions& options = context_.options;
  deadline_.set(is_first_request_ ? options.header_timeout : options.idle_timeout);
  is_first_request_ = false;
  while (input_.empty()) {
    const bool received = co_await read_more();
    if (!received) co_return false;
  }
  co_return true;
}

/// Returns false if the client disconnects or is too slow.
net::awaitable<bool> Connection::read_header(RequestParser& parser) {
  deadline_.set(context_.options.header_timeout);
  while (true) {
    input_.erase(0, parser.parse(input_));
    if (parser.has_header() || parser.failure()) co_return true;
    const bool received = co_await read_more();
    if (!received) co_return false;
  }
}

/// As read_header().
net::awaitable<bool> Connection::read_body(RequestParser& parser) {
  if (parser.expects_continue()) {
    const bool written = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
    if (!written) co_return false;
  }
  deadline_.set(context_.options.body_timeout);
  while (true) {
    input_.erase(0, parser.parse(input_));
    // Body bytes are always consumed: a chunk header or the trailer section is left.
    const size_t limit = context_.options.max_header_bytes;
    if (input_.size() > limit && !parser.is_complete())
      parser.fail(400, fmt::format("chunk header or trailer section exceeds {} bytes", limit));
    if (parser.is_complete() || parser.failure()) co_return true;
    const bool received = co_await read_more();
    if (!received) co_return false;
  }
}

/// Waits until input_ has grown. Returns false if the client disconnects or a deadline passes.
net::awaitable<bool> Connection::read_more() {
  const uint64_t before = bytes_read_;
  start_read();
  while (bytes_read_ == before && !disconnected_) co_await sleep_until(Clock::time_point::max());
  co_return bytes_read_ != before;
}

void Connection::start_read() {
  if (reading_ || disconnected_ || input_.size() > context_.options.max_header_bytes) return;
  reading_ = true;
  incoming_.resize(kReadBytes);
  stream_->read_some(net::buffer(incoming_),
                     [self = shared_from_this()](const boost::system::error_code& error,
                                                 size_t bytes) { self->on_read(error, bytes); });
}

void Connection::on_read(const boost::system::error_code& error, size_t bytes) {
  reading_ = false;
  disconnected_ = bool(error);
  try {
    input_.append(incoming_.data(), bytes);
    bytes_read_ += bytes;
    if (request_active_) start_read();
  } catch (const std::bad_alloc&) {
    disconnected_ = true;
  }
  wake();
}

/// Lets the client read the response before it learns that the connection ends.
net::awaitable<void> Connection::linger() {
  if (reading_) co_return;  // everything received was read
  deadline_.set(kLingerTimeout);
  co_await stream_->shutdown();
  if (stream_->is_tls()) co_return;
  for (size_t discarded = 0; discarded < kMaxDiscarded;) {
    discarded += input_.size();
    input_.clear();
    const bool received = co_await read_more();
    if (!received) break;
  }
}

}  // namespace mxgpt::server
