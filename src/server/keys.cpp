#include "server/keys.h"

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
#include "base/printable.h"

namespace mxgpt::server {

namespace {

constexpr size_t kShortestKey = 16;

int64_t read_limit(const std::string& word, const std::string& where) {
  int64_t limit = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), limit);
  if (error != std::errc() || end != word.data() + word.size() || limit < 0)
    throw Error(where, fmt::format("'{}' is no limit", printable(word)), "0 means none");
  return limit;
}

}  // namespace

Client::Client(std::string name, const ClientLimits& limits)
    : name_(std::move(name)),
      limits_(limits),
      tokens_(static_cast<double>(limits.requests_per_minute)) {}

std::variant<std::shared_ptr<void>, Client::Refusal> Client::begin(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (limits_.concurrent > 0 && in_work_ >= limits_.concurrent) {
    return Refusal{fmt::format("this key has {} requests in work, its limit", in_work_)};
  }
  if (limits_.requests_per_minute > 0) {
    const auto most = static_cast<double>(limits_.requests_per_minute);
    const double a_second = most / 60;
    if (filled_ != Clock::time_point()) {
      const double passed = std::chrono::duration<double>(now - filled_).count();
      tokens_ = std::min(most, tokens_ + passed * a_second);
    }
    filled_ = now;
    if (tokens_ < 1) {
      return Refusal{
          fmt::format("this key may send {} requests a minute", limits_.requests_per_minute),
          static_cast<int>(std::ceil((1 - tokens_) / a_second))};
    }
    tokens_ -= 1;
  }
  ++in_work_;
  return std::shared_ptr<void>(nullptr, [this](void*) {
    const std::lock_guard give_back(mutex_);
    --in_work_;
  });
}

Keys::Keys(const ClientLimits& defaults) {
  entries_.push_back({{}, std::make_unique<Client>("", defaults)});
}

Keys::Keys(const std::filesystem::path& file, const ClientLimits& defaults) : required_(true) {
  std::ifstream in(file);
  if (!in) throw Error(file.string(), "cannot be read", "check --api-keys");
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = fmt::format("{}:{}", file.string(), ++number);
    std::istringstream stream(line);
    const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
    if (words.empty() || words[0].starts_with('#')) continue;
    if (words.size() == 1) throw Error(where, "has a name but no key", "write NAME KEY");
    if (words.size() > 4)
      throw Error(where, fmt::format("has one word too many, '{}'", printable(words[4])));
    const std::string &name = words[0], &key = words[1];
    ClientLimits limits = defaults;
    if (words.size() > 2) limits.requests_per_minute = read_limit(words[2], where);
    if (words.size() > 3) limits.concurrent = read_limit(words[3], where);
    if (key.size() < kShortestKey) {
      throw Error(where, fmt::format("the key is shorter than {} characters", kShortestKey),
                  "take one from `openssl rand -hex 24`");
    }
    const Hash hash = hash_of(key);
    for (const Entry& entry : entries_) {
      if (entry.hash == hash) throw Error(where, "the key is there already");
      if (entry.client->name() == name)
        throw Error(where, fmt::format("the name '{}' is there already", printable(name)));
    }
    entries_.push_back({hash, std::make_unique<Client>(name, limits)});
  }
  if (entries_.empty()) throw Error(file.string(), "has no key", "write a line NAME KEY");
}

Keys::Hash Keys::hash_of(std::string_view key) {
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  return hash;
}

Client* Keys::find(std::string_view key) const {
  if (!required_) return entries_.front().client.get();
  const Hash hash = hash_of(key);
  Client* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) found = entry.client.get();
  }
  return found;
}

}  // namespace mxgpt::server
