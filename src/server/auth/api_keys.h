// API keys, and how much each may ask.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mxgpt::server {

struct ClientLimits {
  int64_t requests_per_minute = 0;  ///< 0: any number; as many at once as in a minute
  int64_t concurrent_requests = 0;  ///< requests in work; 0: any number
};

/// Who asks, and what they have in work. Thread-safe.
class Client {
 public:
  using Clock = std::chrono::steady_clock;

  Client(std::string name, const ClientLimits& limits);

  struct LimitExceeded {
    std::string message;
    int retry_after = 1;  ///< seconds
  };
  /// Room for a request, until the lease is let go of. The client outlives it.
  std::variant<std::shared_ptr<void>, LimitExceeded> acquire(Clock::time_point now);

  const std::string& name() const { return name_; }

 private:
  const std::string name_;
  const ClientLimits limits_;
  std::mutex mutex_;      // of all below
  double bucket_tokens_;  // of the bucket: requests that may come now
  Clock::time_point refilled_at_{};
  int64_t active_requests_ = 0;
};

/// The keys of a file. A line is `NAME KEY [REQUESTS-PER-MINUTE [CONCURRENT]]`; 0 means no limit,
/// what is left out is the default. Empty lines, and lines that begin with '#', are skipped.
class ApiKeys {
 public:
  /// No keys: everybody is one client without a name.
  explicit ApiKeys(const ClientLimits& defaults);
  /// Throws Error naming the line for one that cannot be read, a key of fewer than 16 characters,
  /// or a name or a key that comes twice.
  ApiKeys(const std::filesystem::path& file, const ClientLimits& defaults);

  /// Whose this key is; null if it is nobody's. Keys are compared by their SHA-256, all of them, in
  /// a time that does not depend on where they differ.
  Client* find(std::string_view key) const;
  bool required() const { return required_; }

 private:
  using Hash = std::array<unsigned char, 32>;
  struct Entry {
    Hash hash;
    std::unique_ptr<Client> client;
  };
  static Hash hash_key(std::string_view key);

  bool required_ = false;
  std::vector<Entry> entries_;
};

}  // namespace mxgpt::server
