#include "server/auth/cors.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "base/escape.h"

namespace mxgpt::server {

namespace {

std::string to_lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

/// "http://Example.com:80" as "example.com:80".
std::string without_scheme(std::string_view origin) {
  const size_t at = origin.find("://");
  return to_lower(at == origin.npos ? origin : origin.substr(at + 3));
}

/// Whether a host, with or without port, is an IP address or a name of this machine.
bool is_address_or_localhost(std::string_view host) {
  std::string name = to_lower(host);
  if (name.starts_with('[')) {
    name = name.substr(1, name.find(']') - 1);
  } else {
    name.resize(std::min(name.size(), name.find(':')));
  }
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  boost::system::error_code error;
  boost::asio::ip::make_address(name, error);
  return !error;
}

}  // namespace

std::optional<std::string> origin_rejection(const HttpRequestHead& head,
                                            const OriginPolicy& policy) {
  if (policy.cors_origin == "*") return std::nullopt;
  const std::string_view host = head.header("host");
  const std::string_view origin = head.header("origin");
  if (policy.loopback_only && !host.empty() && !is_address_or_localhost(host)) {
    return fmt::format(
        "host '{}' is not an address or localhost; servers with API keys accept any host name",
        escape_for_terminal(host));
  }
  if (origin.empty() || origin == policy.cors_origin || without_scheme(origin) == to_lower(host))
    return std::nullopt;
  return fmt::format("web pages of '{}' are not allowed; the server can allow one origin",
                     escape_for_terminal(origin));
}

}  // namespace mxgpt::server
