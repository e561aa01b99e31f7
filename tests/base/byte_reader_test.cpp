#include "base/byte_reader.h"

#include <gmock/gmock.h>

namespace mxgpt {
namespace {

TEST(ByteReader, ReadsLittleEndianAtAnyAlignment) {
  const std::string data("\x01\x02\x03\x04\x05\x00\x00\x80\x3f", 9);
  ByteReader in(std::as_bytes(std::span(data)), "file");
  EXPECT_EQ(in.read<uint8_t>(), 1);
  EXPECT_EQ(in.read<uint32_t>(), 0x05040302u);
  EXPECT_EQ(in.read<float>(), 1.0f);
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(ByteReader, RefusesWhatIsNotThere) {
  const std::string data(10, '\0');
  ByteReader in(std::as_bytes(std::span(data)), "model.gguf");
  in.read<uint16_t>();
  in.set_context("metadata 'x'");
  for (const uint64_t size : {uint64_t{9}, uint64_t{1} << 63, ~uint64_t{0}}) {
    try {
      in.read_bytes(size);
      FAIL() << size;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(),
                  testing::HasSubstr("model.gguf: metadata 'x' needs " + std::to_string(size) +
                                     " bytes at byte 2, but only 8 are left"));
    }
  }
  EXPECT_EQ(in.read_bytes(8).size(), 8u);
}

}  // namespace
}  // namespace mxgpt
