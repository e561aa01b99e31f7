#include "base/sha256.h"

#include <gtest/gtest.h>

namespace mxgpt {
namespace {

std::string hash(std::string_view text, size_t piece) {
  Sha256 sha;
  for (size_t i = 0; i < text.size(); i += piece) sha.update(text.substr(i, piece));
  return sha.hex();
}

// FIPS 180-4 examples, as NIST publishes them.
TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(hash("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc", 1), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1000000, 'a');
  EXPECT_EQ(hash(million, 4097),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace mxgpt
