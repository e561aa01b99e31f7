// Listening address and TLS identity of the server.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

#include "server/http/http_options.h"

namespace mxgpt::server {

/// Throws Error unless the host is an IP address or "localhost": resolving a name would query the
/// network.
boost::asio::ip::tcp::endpoint listen_endpoint(const HttpOptions& options);

/// Throws Error if the files are not a certificate and its private key.
boost::asio::ssl::context make_tls_context(const HttpOptions& options);

}  // namespace mxgpt::server
