#include "server/http/http_server.h"

#include <fmt/format.h>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast.hpp>
#include <boost/beast/ssl.hpp>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "server/http/listener.h"

namespace mxgpt::server {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

std::string_view HttpRequestHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

namespace {

/// Completes with the error instead of throwing it.
constexpr auto kAwait = net::as_tuple(net::use_awaitable);

/// How much, and how long, is still read of a refused request (RFC 9112, 9.6).
constexpr size_t kMaxDiscarded = 4 << 20;
constexpr std::chrono::seconds kLingerTimeout{2};

/// How long what comes gathers after something came, but for the end. A fast model makes a token in
/// less time than a thread takes to wake and send it; nobody sees the difference.
constexpr std::chrono::milliseconds kCoalesceInterval{20};

std::string request_id() {
  unsigned char bytes[12];
  RAND_bytes(bytes, sizeof bytes);
  return fmt::format("req_{:02x}", fmt::join(bytes, ""));
}

/// Whether the parser of HTTP says this, and not the connection.
bool is_malformed(const error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_target).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

}  // namespace

class HttpServer::Connection {
 public:
  virtual ~Connection() = default;
  /// From any thread: no further request is read.
  virtual void drain() = 0;
  virtual void drop() = 0;
};

class HttpServer::Impl {
 public:
  Impl(Handler& handler_, const HttpOptions& options_);
  ~Impl();

  net::awaitable<void> accept();
  void enter(const std::shared_ptr<Connection>& connection);
  void leave(const std::shared_ptr<Connection>& connection);
  std::vector<std::shared_ptr<Connection>> all();

  Handler& handler;
  const HttpOptions options;
  net::io_context io;
  net::thread_pool workers;
  std::optional<net::ssl::context> tls;
  tcp::acceptor acceptor;
  uint16_t port = 0;
  std::atomic<bool> draining = false;

  std::mutex mutex;  // of connections
  std::condition_variable left;
  std::set<std::shared_ptr<Connection>> connections;
  std::vector<std::thread> threads;
};

/// One connection, all of it on one strand; Stream is beast::tcp_stream or TLS over it.
template <typename Stream>
class HttpServer::ConnectionOf : public Connection,
                                 public std::enable_shared_from_this<ConnectionOf<Stream>> {
 public:
  ConnectionOf(Impl& server, Stream stream)
      : server_(server), stream_(std::move(stream)), wake_(stream_.get_executor()) {}

  net::awaitable<void> run();
  void drain() override {
    net::post(stream_.get_executor(), [self = this->shared_from_this()] {
      if (self->idle_) self->socket().close();
    });
  }
  void drop() override {
    net::post(stream_.get_executor(),
              [self = this->shared_from_this()] { self->socket().close(); });
  }

 private:
  using Parser = http::request_parser<http::string_body>;
  static constexpr bool kTls = !std::is_same_v<Stream, beast::tcp_stream>;

  beast::tcp_stream& socket() { return beast::get_lowest_layer(stream_); }
  net::awaitable<void> serve();
  net::awaitable<bool> wait_for_request();
  net::awaitable<bool> serve_one();
  net::awaitable<bool> refuse(const error_code& error);
  net::awaitable<bool> answer(HandlerResult answer, bool keep_alive);
  net::awaitable<bool> write(HttpResponse response, bool keep_alive);
  net::awaitable<bool> stream_events(EventStream& events, bool keep_alive);
  net::awaitable<void> close();
  /// The client is gone, and has not got its answer.
  bool lost() {
    gone_ = true;
    record_.status = 499;
    return false;
  }
  static net::awaitable<void> watch(std::shared_ptr<ConnectionOf> self);
  net::awaitable<void> sleep(Clock::time_point until);
  net::awaitable<void> wait_for_news(const DeferredResponse& pending, Clock::time_point until);
  std::function<void(bool)> waker();
  void read_head(const http::request_header<>& header);
  template <typename Body>
  void set_headers(http::response<Body>& message, const HttpResponse& response, bool keep_alive);

  Impl& server_;
  Stream stream_;
  beast::flat_buffer buffer_;
  net::steady_timer wake_;
  bool woken_ = false;
  std::atomic<bool> gathering_ = false;  // events: only the end wakes us
  bool idle_ = true;                     // between requests
  bool watching_ = false;                // a read is under way that watch() began
  bool in_work_ = false;                 // a request is, and watch() should go on
  bool gone_ = false;                    // the client is
  std::shared_ptr<void> lease_;          // of the request in work
  HttpRequestHead head_;
  bool is_head_ = false, is_http10_ = false;
  AccessLogEntry record_;
};

template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::run() {
  const auto self = this->shared_from_this();
  try {
    bool ready = true;
    if constexpr (kTls) {
      socket().expires_after(server_.options.header_timeout);
      const auto [error] = co_await stream_.async_handshake(net::ssl::stream_base::server, kAwait);
      ready = !error;
    }
    if (ready) co_await serve();
  } catch (const std::exception& e) {
    spdlog::error("a connection ended: {}", e.what());
  }
  in_work_ = false;
  error_code ignored;
  socket().socket().close(ignored);
  server_.leave(self);
}

template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::serve() {
  while (co_await wait_for_request()) {
    idle_ = false;
    const bool keep_open = co_await serve_one();
    idle_ = true;
    in_work_ = false;
    if (!keep_open || gone_ || server_.draining) break;
  }
  if (!gone_) co_await close();
}

/// Until the first byte of a request is there.
template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::wait_for_request() {
  const auto until = Clock::now() + server_.options.idle_timeout;
  while (watching_ && !gone_) {
    if (Clock::now() >= until) co_return false;
    co_await sleep(until);
  }
  if (gone_) co_return false;
  if (buffer_.size() > 0) co_return true;
  socket().expires_after(server_.options.idle_timeout);
  const auto [error, count] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwait);
  gone_ = bool(error);
  buffer_.commit(count);
  co_return !gone_;
}

template <typename Stream>
void HttpServer::ConnectionOf<Stream>::read_head(const http::request_header<>& header) {
  head_ = {.id = request_id()};
  is_head_ = header.method() == http::verb::head;
  is_http10_ = header.version() < 11;
  head_.method = is_head_ ? "GET" : std::string(header.method_string());
  const std::string_view target = header.target();
  const size_t end = std::min(target.find('?'), target.size());
  head_.path = target.substr(0, end);
  head_.query = target.substr(std::min(end + 1, target.size()));
  error_code ignored;
  const auto remote = socket().socket().remote_endpoint(ignored);
  if (!ignored) head_.remote_address = remote.address().to_string();
  for (const auto& field : header) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    head_.headers.emplace_back(std::move(name), std::string(field.value()));
  }
}

/// Before the whole request was read: the connection cannot go on.
template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::refuse(const error_code& error) {
  const HttpOptions& options = server_.options;
  int status = 400;
  std::string message = "not a valid HTTP request: " + error.message();
  if (error == http::error::header_limit) {
    status = 431;
    message = fmt::format("the headers exceed {} bytes", options.max_header_bytes);
  } else if (error == http::error::body_limit) {
    status = 413;
    message = fmt::format("the body exceeds {} bytes", options.max_body_bytes);
  }
  HttpResponse response = server_.handler.transport_error(head_, status, message);
  co_await write(std::move(response), false);
  co_return false;
}

/// Reads a request and answers it; whether the connection can be used again.
template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::serve_one() {
  const HttpOptions& options = server_.options;
  const auto started_at = Clock::now();
  record_ = {.head = &head_};
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(options.max_header_bytes));
  parser.body_limit(options.max_body_bytes);
  socket().expires_after(options.header_timeout);
  error_code error;
  std::tie(error, std::ignore) = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
  const auto finish = [&](bool again) {
    lease_.reset();
    record_.seconds = std::chrono::duration<double>(Clock::now() - started_at).count();
    server_.handler.log(record_);
    return again;
  };
  read_head(parser.get());  // what there is of it
  if (error) {
    // Only what the parser says can be answered; otherwise nobody is there to read.
    if (is_malformed(error)) co_return finish(co_await refuse(error));
    if (error != beast::error::timeout) gone_ = true;
    co_return false;
  }
  auto admitted = server_.handler.admit(head_);
  if (auto* refusal = std::get_if<HttpResponse>(&admitted)) {
    const bool has_body = !parser.is_done();
    const bool again = co_await write(std::move(*refusal), !has_body && parser.keep_alive());
    co_return finish(again && !has_body && parser.keep_alive());
  }
  auto& admission = std::get<Handler::Admission>(admitted);
  record_.client = admission.client;
  lease_ = std::move(admission.lease);

  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    socket().expires_after(options.write_timeout);
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    std::tie(error, std::ignore) =
        co_await net::async_write(stream_, net::buffer(kContinue), kAwait);
    if (error) co_return false;
  }
  socket().expires_after(options.body_timeout);
  std::tie(error, std::ignore) = co_await http::async_read(stream_, buffer_, parser, kAwait);
  if (is_malformed(error)) co_return finish(co_await refuse(error));
  if (error) {
    co_return finish(lost());
  }

  HttpRequest request{head_, admission.client, std::move(parser.get().body())};
  const bool keep_alive = parser.keep_alive() && !server_.draining;
  in_work_ = watching_ = true;
  net::co_spawn(stream_.get_executor(), watch(this->shared_from_this()), net::detached);
  // Tokenizing and compiling take time that other connections must not wait for.
  HandlerResult result = HttpResponse{};
  try {
    result = co_await net::co_spawn(
        server_.workers,
        [&]() -> net::awaitable<HandlerResult> {
          co_return server_.handler.handle(std::move(request));
        },
        net::use_awaitable);
  } catch (const std::exception& e) {
    spdlog::error("{} {}: {}", head_.method, head_.path, e.what());
    result =
        server_.handler.transport_error(head_, 500, "the server has a defect; its log says more");
  }
  const bool again = co_await answer(std::move(result), keep_alive);
  co_return finish(again && keep_alive);
}

/// Reads ahead while an answer is in work, only to learn that the client has gone. At most one read
/// is under way, and it is never cancelled, which TLS would not survive: the next request begins
/// with what it brought. With a request there already nothing more is read, as that one may be
/// whole, and waiting for further bytes would be waiting for ever.
template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::watch(std::shared_ptr<ConnectionOf> self) {
  while (self->in_work_ && !self->gone_ && self->buffer_.size() == 0) {
    self->socket().expires_never();
    const auto [error, count] =
        co_await self->stream_.async_read_some(self->buffer_.prepare(4096), kAwait);
    self->buffer_.commit(count);
    if (error) self->gone_ = true;
  }
  self->watching_ = false;
  self->woken_ = true;
  self->wake_.cancel();
}

template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::sleep(Clock::time_point until) {
  if (!woken_) {
    wake_.expires_at(until);
    co_await wake_.async_wait(kAwait);
  }
  woken_ = false;
}

/// Until poll() may have more, at most until then. While some flows, it gathers: the answer's end
/// and the client's going cut that short.
template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::wait_for_news(
    const DeferredResponse& pending, Clock::time_point until) {
  gathering_ = pending.made_progress();
  co_await sleep(gathering_ ? Clock::now() + kCoalesceInterval : until);
  gathering_ = false;
}

template <typename Stream>
std::function<void(bool)> HttpServer::ConnectionOf<Stream>::waker() {
  return [weak = this->weak_from_this()](bool ended) {
    const auto self = weak.lock();
    if (!self || (self->gathering_ && !ended)) return;
    net::post(self->stream_.get_executor(), [self] {
      self->woken_ = true;
      self->wake_.cancel();
    });
  };
}

template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::answer(HandlerResult answer,
                                                              bool keep_alive) {
  if (gone_) co_return lost();
  if (auto* response = std::get_if<HttpResponse>(&answer))
    co_return co_await write(std::move(*response), keep_alive);
  if (auto* events = std::get_if<std::unique_ptr<EventStream>>(&answer))
    co_return co_await stream_events(**events, keep_alive);
  auto& pending = *std::get<std::unique_ptr<UnaryResponse>>(answer);
  pending.on_ready(waker());
  while (!gone_) {
    if (auto response = pending.poll()) co_return co_await write(std::move(*response), keep_alive);
    co_await wait_for_news(pending, Clock::time_point::max());
  }
  co_return lost();
}

template <typename Stream>
template <typename Body>
void HttpServer::ConnectionOf<Stream>::set_headers(http::response<Body>& message,
                                                   const HttpResponse& response, bool keep_alive) {
  message.result(static_cast<unsigned>(response.status));
  message.version(is_http10_ ? 10 : 11);
  message.keep_alive(keep_alive);
  message.set(http::field::content_type, response.content_type);
  message.set("x-request-id", head_.id);
  for (const auto& [name, value] : response.headers) message.set(name, value);
  const std::string& allowed = server_.options.cors_origin;
  if (!allowed.empty() && (allowed == "*" || head_.header("origin") == allowed)) {
    message.set(http::field::access_control_allow_origin, allowed);
    message.set(http::field::access_control_allow_headers,
                "authorization, content-type, x-api-key, anthropic-version");
    message.set(http::field::access_control_allow_methods, "GET, POST, DELETE, OPTIONS");
    message.set(http::field::vary, "origin");
  }
  record_.status = response.status;
}

template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::write(HttpResponse response,
                                                             bool keep_alive) {
  lease_.reset();
  http::response<http::string_body> message;
  set_headers(message, response, keep_alive);
  const size_t size = response.body.size();
  record_.body_bytes = static_cast<int64_t>(size);
  if (!is_head_) message.body() = std::move(response.body);
  message.content_length(size);
  http::response_serializer<http::string_body> serializer(message);
  socket().expires_after(server_.options.write_timeout);
  const auto [error, count] = co_await http::async_write(stream_, serializer, kAwait);
  co_return error ? lost() : true;
}

template <typename Stream>
net::awaitable<bool> HttpServer::ConnectionOf<Stream>::stream_events(EventStream& events,
                                                                     bool keep_alive) {
  http::response<http::empty_body> message;
  set_headers(message, {.content_type = "text/event-stream"}, keep_alive && !is_http10_);
  message.set(http::field::cache_control, "no-cache");
  message.set("x-accel-buffering", "no");  // nginx would gather events
  message.chunked(!is_http10_);
  http::response_serializer<http::empty_body> serializer(message);
  socket().expires_after(server_.options.write_timeout);
  error_code error;
  std::tie(error, std::ignore) = co_await http::async_write_header(stream_, serializer, kAwait);
  events.on_ready(waker());
  std::string bytes;
  auto silent_until = Clock::now() + server_.options.sse_ping_interval;
  bool more = true;
  while (more && !error && !gone_) {
    bytes.clear();
    more = events.poll(bytes);
    if (!more) lease_.reset();
    // Proxies and clients give a connection up that says nothing.
    if (bytes.empty() && more && Clock::now() >= silent_until) bytes = ": in work\n\n";
    if (!bytes.empty()) {
      record_.body_bytes += static_cast<int64_t>(bytes.size());
      silent_until = Clock::now() + server_.options.sse_ping_interval;
      socket().expires_after(server_.options.write_timeout);
      const net::const_buffer all = net::buffer(bytes);
      if (is_http10_) {
        std::tie(error, std::ignore) = co_await net::async_write(stream_, all, kAwait);
      } else {
        const auto chunk = http::make_chunk(all);
        std::tie(error, std::ignore) = co_await net::async_write(stream_, chunk, kAwait);
      }
    }
    if (more && !error) co_await wait_for_news(events, silent_until);
  }
  if (!more && !error && !is_http10_) {
    socket().expires_after(server_.options.write_timeout);
    const auto last = http::make_chunk_last();
    std::tie(error, std::ignore) = co_await net::async_write(stream_, last, kAwait);
  }
  if (error || more) co_return lost();
  co_return !gone_ && !is_http10_;
}

/// So that the client reads the answer before it learns of the end.
template <typename Stream>
net::awaitable<void> HttpServer::ConnectionOf<Stream>::close() {
  if (watching_) co_return;  // nothing was left unread
  socket().expires_after(kLingerTimeout);
  error_code ignored;
  if constexpr (kTls) {
    co_await stream_.async_shutdown(kAwait);
    co_return;
  }
  socket().socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> discarded(16 << 10);
  for (size_t total = 0; total < kMaxDiscarded;) {
    const auto [error, count] = co_await stream_.async_read_some(net::buffer(discarded), kAwait);
    if (error) break;
    total += count;
  }
}

HttpServer::Impl::Impl(Handler& handler_, const HttpOptions& options_)
    : handler(handler_),
      options(options_),
      io(options.io_threads),
      workers(static_cast<size_t>(options.handler_threads)),
      acceptor(net::make_strand(io)) {
  if (!options.tls_certificate.empty()) tls = make_tls_context(options);
  const tcp::endpoint endpoint = listen_endpoint(options);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(net::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(net::socket_base::max_listen_connections, error);
  if (error) {
    throw Error(fmt::format("{}:{}", options.host, options.port), error.message(),
                "choose another with --host and --port");
  }
  port = acceptor.local_endpoint().port();
  net::co_spawn(acceptor.get_executor(), accept(), net::detached);
  for (int i = 0; i < options.io_threads; ++i) threads.emplace_back([this] { io.run(); });
}

HttpServer::Impl::~Impl() {
  draining = true;
  io.stop();
  for (std::thread& thread : threads) thread.join();
  workers.join();
}

void HttpServer::Impl::enter(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex);
  connections.insert(connection);
}

void HttpServer::Impl::leave(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex);
  connections.erase(connection);
  if (connections.empty()) left.notify_all();
}

std::vector<std::shared_ptr<HttpServer::Connection>> HttpServer::Impl::all() {
  const std::lock_guard lock(mutex);
  return {connections.begin(), connections.end()};
}

net::awaitable<void> HttpServer::Impl::accept() {
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(net::make_strand(io), kAwait);
    if (!acceptor.is_open()) break;
    if (error) {  // out of file descriptors, for instance: it passes
      net::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
      continue;
    }
    bool full;
    {
      const std::lock_guard lock(mutex);
      full = static_cast<int64_t>(connections.size()) >= options.max_connections;
    }
    error_code ignored;
    if (full) {
      static constexpr std::string_view kFull =
          "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
          "connection: close\r\n\r\n";
      socket.non_blocking(true, ignored);
      if (!tls) socket.write_some(net::buffer(kFull), ignored);
      continue;
    }
    socket.set_option(tcp::no_delay(true), ignored);
    const auto executor = socket.get_executor();
    const auto start = [&](auto connection) {
      enter(connection);
      net::co_spawn(
          executor, [connection] { return connection->run(); }, net::detached);
    };
    if (tls) {
      using Tls = beast::ssl_stream<beast::tcp_stream>;
      start(std::make_shared<ConnectionOf<Tls>>(*this,
                                                Tls(beast::tcp_stream(std::move(socket)), *tls)));
    } else {
      start(std::make_shared<ConnectionOf<beast::tcp_stream>>(
          *this, beast::tcp_stream(std::move(socket))));
    }
  }
}

HttpServer::HttpServer(Handler& handler, const HttpOptions& options)
    : impl_(std::make_unique<Impl>(handler, options)) {}

HttpServer::~HttpServer() {
  stop_accepting();
  for (const auto& connection : impl_->all()) connection->drop();
  wait_until_drained(Clock::now() +
                     std::chrono::seconds(10));  // answers in work are let go of by their own
}

uint16_t HttpServer::port() const {
  return impl_->port;
}

int64_t HttpServer::connection_count() const {
  const std::lock_guard lock(impl_->mutex);
  return static_cast<int64_t>(impl_->connections.size());
}

void HttpServer::stop_accepting() {
  impl_->draining = true;
  net::post(impl_->acceptor.get_executor(), [impl = impl_.get()] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  for (const auto& connection : impl_->all()) connection->drain();
}

bool HttpServer::wait_until_drained(Clock::time_point deadline) {
  std::unique_lock lock(impl_->mutex);
  return impl_->left.wait_until(lock, deadline, [&] { return impl_->connections.empty(); });
}

}  // namespace mxgpt::server
