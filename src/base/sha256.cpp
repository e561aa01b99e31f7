#include "base/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <iterator>

#include "base/check.h"

namespace mxgpt {

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  const bool ready = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  MXGPT_CHECK(ready, "OpenSSL offers no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  const bool done = EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
  MXGPT_CHECK(done, "after hex()");
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest{};
  const bool done = EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1;
  MXGPT_CHECK(done, "hex() twice");
  std::string out;
  for (const unsigned char byte : digest) fmt::format_to(std::back_inserter(out), "{:02x}", byte);
  return out;
}

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes) {
  // Fetched once: EVP_sha256() looks the algorithm up on every call.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  std::array<std::byte, 32> digest{};
  const bool done =
      EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()),
                 nullptr, algorithm, nullptr) == 1;
  MXGPT_CHECK(done, "OpenSSL offers no SHA-256");
  return digest;
}

}  // namespace mxgpt
