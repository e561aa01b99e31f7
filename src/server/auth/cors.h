// Web pages that may use the server. A browser sends requests for any page, also to a server on the
// user's own machine; the Origin and Host headers decide.
#pragma once

#include <optional>
#include <string>

#include "server/http/http.h"

namespace mxgpt::server {

struct OriginPolicy {
  std::string cors_origin;  ///< allowed origin; "*": any; empty: only pages of this server
  /// For a server that listens on the loopback address and has no keys: `Host` must be an address
  /// or localhost, since a page can make its own host name resolve to this machine (DNS rebinding).
  bool loopback_only = false;
};

/// Why a request is refused; nothing if it is allowed.
std::optional<std::string> origin_rejection(const HttpRequestHead& head,
                                            const OriginPolicy& policy);

}  // namespace mxgpt::server
