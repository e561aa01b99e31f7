// Which web pages may use the server. Browsers send what any page asks them to, also to a server on
// the user's own machine; what they say about where it comes from decides.
#pragma once

#include <optional>
#include <string>

#include "server/http/http.h"

namespace mxgpt::server {

struct OriginPolicy {
  std::string cors_origin;  ///< that may call; "*": any; empty: none but pages of our own
  /// The server listens on this machine alone and asks for no key: then the name in `Host` must be
  /// this machine's, since a page can have its own name lead here (DNS rebinding).
  bool loopback_only = false;
};

/// Why a request is refused, or nothing.
std::optional<std::string> origin_rejection(const HttpRequestHead& head,
                                            const OriginPolicy& policy);

}  // namespace mxgpt::server
