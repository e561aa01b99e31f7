// API keys and their limits.
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
  int64_t requests_per_minute = 0;  ///< 0: unlimited; also the burst size
  int64_t concurrent_requests = 0;  ///< active at once; 0: unlimited
};

/// The owner of an API key, and its active requests. Thread-safe.
class Client {
 public:
  using Clock = std::chrono::steady_clock;

  Client(std::string name, const ClientLimits& limits);

  struct LimitExceeded {
    std::string message;
    int retry_after = 1;  ///< seconds
  };
  /// Admits a request until the returned lease is destroyed. The client must outlive the lease.
  std::variant<std::shared_ptr<void>, LimitExceeded> acquire(Clock::time_point now);

  const std::string& name() const { return name_; }

 private:
  const std::string name_;
  const ClientLimits limits_;
  std::mutex mutex_;      // guards the members below
  double bucket_tokens_;  // of the token bucket: requests that may start now
  Clock::time_point refilled_at_{};
  int64_t active_requests_ = 0;
};

/// API keys, read from a file with lines `NAME KEY [REQUESTS-PER-MINUTE [CONCURRENT]]`. A limit of
/// 0 means unlimited; an omitted limit is the default. Empty lines and lines starting with '#' are
/// skipped.
class ApiKeys {
 public:
  /// Without keys: all requests belong to one client with an empty name.
  explicit ApiKeys(const ClientLimits& defaults);
  /// Throws Error naming the line if it is malformed, its key is shorter than 16 characters, or its
  /// name or key is a duplicate.
  ApiKeys(const std::filesystem::path& file, const ClientLimits& defaults);

  /// Owner of the key, or null if it is unknown. Compares the SHA-256 of all keys, in time that
  /// does not depend on where they differ.
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
