#include "server/auth/api_keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::server {

namespace {

constexpr size_t kMinKeyLength = 16;

int64_t read_limit(const std::string& word, const std::string& where) {
  int64_t limit = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), limit);
  if (error != std::errc() || end != word.data() + word.size() || limit < 0)
    throw Error(where, fmt::format("'{}' is not a limit", escape_for_terminal(word)),
                "use a number; 0 means unlimited");
  return limit;
}

}  // namespace

Client::Client(std::string name, const ClientLimits& limits)
    : name_(std::move(name)),
      limits_(limits),
      bucket_tokens_(static_cast<double>(limits.requests_per_minute)) {}

std::variant<std::shared_ptr<void>, Client::LimitExceeded> Client::acquire(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (limits_.concurrent_requests > 0 && active_requests_ >= limits_.concurrent_requests) {
    return LimitExceeded{
        fmt::format("this key already has {} active requests, its limit", active_requests_)};
  }
  if (limits_.requests_per_minute > 0) {
    const auto capacity = static_cast<double>(limits_.requests_per_minute);
    const double per_second = capacity / 60;
    if (refilled_at_ != Clock::time_point()) {
      const double elapsed = std::chrono::duration<double>(now - refilled_at_).count();
      bucket_tokens_ = std::min(capacity, bucket_tokens_ + elapsed * per_second);
    }
    refilled_at_ = now;
    if (bucket_tokens_ < 1) {
      return LimitExceeded{
          fmt::format("this key is limited to {} requests per minute", limits_.requests_per_minute),
          static_cast<int>(std::ceil((1 - bucket_tokens_) / per_second))};
    }
    bucket_tokens_ -= 1;
  }
  ++active_requests_;
  return std::shared_ptr<void>(nullptr, [this](void*) {
    const std::lock_guard release_lock(mutex_);
    --active_requests_;
  });
}

ApiKeys::ApiKeys(const ClientLimits& defaults) {
  entries_.push_back({{}, std::make_unique<Client>("", defaults)});
}

ApiKeys::ApiKeys(const std::filesystem::path& file, const ClientLimits& defaults)
    : required_(true) {
  std::ifstream in(file);
  if (!in)
    throw Error(file.string(), "cannot read the API keys", "check the path and its permissions");
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = fmt::format("{}:{}", file.string(), ++number);
    std::istringstream stream(line);
    const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
    if (words.empty() || words[0].starts_with('#')) continue;
    if (words.size() == 1) throw Error(where, "missing key", "write NAME KEY");
    if (words.size() > 4)
      throw Error(where, fmt::format("unexpected word '{}'", escape_for_terminal(words[4])));
    const std::string &name = words[0], &key = words[1];
    ClientLimits limits = defaults;
    if (words.size() > 2) limits.requests_per_minute = read_limit(words[2], where);
    if (words.size() > 3) limits.concurrent_requests = read_limit(words[3], where);
    if (key.size() < kMinKeyLength) {
      throw Error(where, fmt::format("key is shorter than {} characters", kMinKeyLength),
                  "generate one with `openssl rand -hex 24`");
    }
    const Hash hash = hash_key(key);
    for (const Entry& entry : entries_) {
      if (entry.hash == hash) throw Error(where, "duplicate key");
      if (entry.client->name() == name)
        throw Error(where, fmt::format("duplicate name '{}'", escape_for_terminal(name)));
    }
    entries_.push_back({hash, std::make_unique<Client>(name, limits)});
  }
  if (entries_.empty()) throw Error(file.string(), "contains no key", "add a line NAME KEY");
}

ApiKeys::Hash ApiKeys::hash_key(std::string_view key) {
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  return hash;
}

Client* ApiKeys::find(std::string_view key) const {
  if (!required_) return entries_.front().client.get();
  const Hash hash = hash_key(key);
  Client* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) found = entry.client.get();
  }
  return found;
}

}  // namespace mxgpt::server
