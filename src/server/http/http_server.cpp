#include "server/http/http_server.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "server/http/connection.h"
#include "server/http/listener.h"

namespace mxgpt::server {

namespace net = boost::asio;
using tcp = net::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

std::string_view HttpRequestHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

class HttpServer::Impl {
 public:
  Impl(Handler& handler_, const HttpOptions& options_);
  ~Impl();

  void run_io();
  void spawn_accept();
  net::awaitable<void> accept();
  void start(tcp::socket socket);
  void add(const std::shared_ptr<Connection>& connection);
  void remove(const std::shared_ptr<Connection>& connection);
  std::vector<std::shared_ptr<Connection>> snapshot();

  Handler& handler;
  const HttpOptions options;
  BodyBudget body_budget;
  std::atomic<bool> draining = false;
  net::io_context io;
  net::thread_pool workers;
  std::optional<net::ssl::context> tls;
  tcp::acceptor acceptor;
  uint16_t port = 0;

  std::mutex mutex;  // guards connections
  std::condition_variable all_closed;
  std::set<std::shared_ptr<Connection>> connections;
  std::vector<std::thread> threads;
};

HttpServer::Impl::Impl(Handler& handler_, const HttpOptions& options_)
    : handler(handler_),
      options(options_),
      body_budget(options.max_total_body_bytes),
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
                "choose another host or port");
  }
  port = acceptor.local_endpoint().port();
  spawn_accept();
  for (int i = 0; i < options.io_threads; ++i) threads.emplace_back([this] { run_io(); });
}

HttpServer::Impl::~Impl() {
  draining = true;
  io.stop();
  for (std::thread& thread : threads) thread.join();
  workers.join();
}

/// An exception, such as a failed allocation inside Asio, costs the operation that threw it, not
/// the process.
void HttpServer::Impl::run_io() {
  while (true) {
    try {
      io.run();
      return;
    } catch (const std::exception& e) {
      log::error("I/O thread: {}", e.what());
    }
  }
}

void HttpServer::Impl::add(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex);
  connections.insert(connection);
}

void HttpServer::Impl::remove(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex);
  connections.erase(connection);
  if (connections.empty()) all_closed.notify_all();
}

std::vector<std::shared_ptr<Connection>> HttpServer::Impl::snapshot() {
  const std::lock_guard lock(mutex);
  return {connections.begin(), connections.end()};
}

/// Starts accept() again if it fails, for want of memory for example.
void HttpServer::Impl::spawn_accept() {
  net::co_spawn(acceptor.get_executor(), accept(), [this](const std::exception_ptr& error) {
    if (error && acceptor.is_open()) spawn_accept();
  });
}

net::awaitable<void> HttpServer::Impl::accept() {
  constexpr auto kAwait = net::as_tuple(net::use_awaitable);
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(net::make_strand(io), kAwait);
    if (!acceptor.is_open()) break;
    if (!error) {
      try {
        start(std::move(socket));
        continue;
      } catch (const std::exception& e) {
        log::error("connection not accepted: {}", e.what());
      }
    }
    // Out of file descriptors or memory, for example; both pass.
    net::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(50));
    co_await pause.async_wait(kAwait);
  }
}

void HttpServer::Impl::start(tcp::socket socket) {
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
    return;
  }
  socket.set_option(tcp::no_delay(true), ignored);
  const auto executor = socket.get_executor();
  const auto connection = std::make_shared<Connection>(
      ConnectionContext{handler, options, workers, body_budget, draining},
      tls ? make_tls_stream(std::move(socket), *tls) : make_tcp_stream(std::move(socket)));
  add(connection);
  try {
    net::co_spawn(
        executor, [connection] { return connection->run(); },
        [this, connection](const std::exception_ptr&) { remove(connection); });
  } catch (...) {
    remove(connection);
    throw;
  }
}

HttpServer::HttpServer(Handler& handler, const HttpOptions& options)
    : impl_(std::make_unique<Impl>(handler, options)) {}

HttpServer::~HttpServer() {
  stop_accepting();
  for (const auto& connection : impl_->snapshot()) connection->drop();
  wait_until_drained(Clock::now() + std::chrono::seconds(10));
}

uint16_t HttpServer::port() const {
  return impl_->port;
}

int64_t HttpServer::connection_count() const {
  const std::lock_guard lock(impl_->mutex);
  return static_cast<int64_t>(impl_->connections.size());
}

size_t HttpServer::body_bytes() const {
  return impl_->body_budget.used();
}

void HttpServer::stop_accepting() {
  impl_->draining = true;
  net::post(impl_->acceptor.get_executor(), [impl = impl_.get()] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  for (const auto& connection : impl_->snapshot()) connection->drain();
}

bool HttpServer::wait_until_drained(Clock::time_point deadline) {
  std::unique_lock lock(impl_->mutex);
  return impl_->all_closed.wait_until(lock, deadline, [&] { return impl_->connections.empty(); });
}

}  // namespace mxgpt::server
