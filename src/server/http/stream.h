// A TCP or TLS connection behind one type: only stream.cpp instantiates the TLS templates.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string_view>

namespace boost::asio::ssl {
class context;
}

namespace mxgpt::server {

/// All members run on the strand of the socket's executor. One read and one write may be pending at
/// a time.
class Stream {
 public:
  using ReadHandler = std::function<void(const boost::system::error_code& error, size_t bytes)>;

  virtual ~Stream() = default;
  virtual boost::asio::ip::tcp::socket& socket() = 0;
  /// Server side of the TLS handshake; returns at once without TLS.
  virtual boost::asio::awaitable<boost::system::error_code> handshake() = 0;
  /// Reads at least one byte. The buffer stays valid until the handler has run.
  virtual void read_some(boost::asio::mutable_buffer buffer, ReadHandler handler) = 0;
  /// Writes both parts, in order.
  virtual boost::asio::awaitable<boost::system::error_code> write(std::string_view first,
                                                                  std::string_view second) = 0;
  /// Tells the client that no more bytes follow. Without TLS the client's bytes can still be read.
  virtual boost::asio::awaitable<void> shutdown() = 0;
  virtual bool is_tls() const = 0;
};

std::unique_ptr<Stream> make_tcp_stream(boost::asio::ip::tcp::socket socket);
std::unique_ptr<Stream> make_tls_stream(boost::asio::ip::tcp::socket socket,
                                        boost::asio::ssl::context& context);

}  // namespace mxgpt::server
