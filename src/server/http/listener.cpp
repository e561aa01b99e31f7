#include "server/http/listener.h"

#include <fmt/format.h>

#include <boost/asio/ip/address.hpp>

#include "base/error.h"

namespace mxgpt::server {

namespace net = boost::asio;
using boost::system::error_code;

net::ip::tcp::endpoint listen_endpoint(const HttpOptions& options) {
  error_code error;
  const std::string host = options.host == "localhost" ? "127.0.0.1" : options.host;
  const auto address = net::ip::make_address(host, error);
  if (error)
    throw Error(field::kListenAddress, fmt::format("'{}' is not an IP address", options.host),
                "use an IP address, or 0.0.0.0 for all interfaces");
  return {address, options.port};
}

net::ssl::context make_tls_context(const HttpOptions& options) {
  net::ssl::context context(net::ssl::context::tls_server);
  context.set_options(net::ssl::context::default_workarounds | net::ssl::context::no_sslv2 |
                      net::ssl::context::no_sslv3 | net::ssl::context::no_tlsv1 |
                      net::ssl::context::no_tlsv1_1);
  error_code error;
  context.use_certificate_chain_file(options.tls_certificate.string(), error);
  if (error)
    throw Error(options.tls_certificate.string(), error.message(),
                "expected a certificate chain in PEM format");
  context.use_private_key_file(options.tls_key.string(), net::ssl::context::pem, error);
  if (error)
    throw Error(options.tls_key.string(), error.message(), "expected a private key in PEM format");
  return context;
}

}  // namespace mxgpt::server
