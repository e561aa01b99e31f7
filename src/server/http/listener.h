// Where the server listens, and as whom.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

#include "server/http/http_server.h"

namespace mxgpt::server {

/// Throws Error for what is no address: a name would ask the network.
boost::asio::ip::tcp::endpoint listen_endpoint(const HttpOptions& options);

/// Throws Error for files that are not a certificate with its key.
boost::asio::ssl::context make_tls_context(const HttpOptions& options);

}  // namespace mxgpt::server
