#include "server/http/stream.h"

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <string>
#include <utility>

namespace mxgpt::server {

namespace net = boost::asio;
using boost::system::error_code;
using tcp = net::ip::tcp;

namespace {

constexpr auto kAwait = net::as_tuple(net::use_awaitable);

/// Writes up to this size are one TLS record.
constexpr size_t kMaxTlsRecord = 16 << 10;

class TcpStream : public Stream {
 public:
  explicit TcpStream(tcp::socket socket) : socket_(std::move(socket)) {}

  tcp::socket& socket() override { return socket_; }
  bool is_tls() const override { return false; }
  net::awaitable<error_code> handshake() override { co_return error_code(); }
  void read_some(net::mutable_buffer buffer, ReadHandler handler) override {
    socket_.async_read_some(buffer, std::move(handler));
  }
  net::awaitable<error_code> write(std::string_view first, std::string_view second) override {
    const std::array<net::const_buffer, 2> buffers{net::buffer(first), net::buffer(second)};
    const auto [error, bytes] = co_await net::async_write(socket_, buffers, kAwait);
    co_return error;
  }
  net::awaitable<void> shutdown() override {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    co_return;
  }

 private:
  tcp::socket socket_;
};

class TlsStream : public Stream {
 public:
  TlsStream(tcp::socket socket, net::ssl::context& context) : stream_(std::move(socket), context) {}

  tcp::socket& socket() override { return stream_.next_layer(); }
  bool is_tls() const override { return true; }
  net::awaitable<error_code> handshake() override {
    const auto [error] = co_await stream_.async_handshake(net::ssl::stream_base::server, kAwait);
    co_return error;
  }
  void read_some(net::mutable_buffer buffer, ReadHandler handler) override {
    stream_.async_read_some(buffer, std::move(handler));
  }
  net::awaitable<error_code> write(std::string_view first, std::string_view second) override {
    if (first.size() + second.size() > kMaxTlsRecord) {
      const error_code error = co_await write_part(first);
      if (error) co_return error;
      const error_code second_error = co_await write_part(second);
      co_return second_error;
    }
    std::string record(first);
    record += second;
    const error_code error = co_await write_part(record);
    co_return error;
  }
  net::awaitable<void> shutdown() override { co_await stream_.async_shutdown(kAwait); }

 private:
  net::awaitable<error_code> write_part(std::string_view bytes) {
    if (bytes.empty()) co_return error_code();
    const net::const_buffer buffer = net::buffer(bytes);
    const auto [error, count] = co_await net::async_write(stream_, buffer, kAwait);
    co_return error;
  }

  net::ssl::stream<tcp::socket> stream_;
};

}  // namespace

std::unique_ptr<Stream> make_tcp_stream(tcp::socket socket) {
  return std::make_unique<TcpStream>(std::move(socket));
}

std::unique_ptr<Stream> make_tls_stream(tcp::socket socket, net::ssl::context& context) {
  return std::make_unique<TlsStream>(std::move(socket), context);
}

}  // namespace mxgpt::server
