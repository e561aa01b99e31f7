// Hostile and broken GGUF files: each gives one Error that names the file, the field and the value.
#include <gmock/gmock.h>

#include <memory>

#include "base/error.h"
#include "support/gguf_bytes.h"
#include "support/temporary_directory.h"

namespace mxgpt::io {

std::string open_and_read_all(std::string_view bytes) {
  const auto copy = std::make_unique<std::byte[]>(bytes.size());
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  try {
    const auto file = GgufFile::from_bytes({copy.get(), bytes.size()}, "bad.gguf");
    volatile size_t sink = 0;
    for (const FileTensor& tensor : file.tensors()) {
      for (const std::byte b : tensor.bytes) sink = sink + std::to_integer<size_t>(b);
    }
    for (const auto& [key, value] : file.metadata().entries()) {
      for (const GgufScalar& element : value.elements(value.size)) {
        const auto* s = std::get_if<std::string_view>(&element);
        if (s) sink = sink + std::hash<std::string_view>()(*s);
      }
    }
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

namespace {

using testing::HasSubstr;
using testing::StartsWith;
using B = GgufBytes;

struct Case {
  const char* name;
  std::string bytes;
  std::vector<const char*> expected;  // substrings of the message
};

B with_tensor(const B::Tensor& t) {
  return B().tensor(t);
}

B with_alignment(uint32_t alignment) {
  return B().entry("general.alignment", GgufType::u32, B::raw(alignment)).tensor({});
}

std::vector<Case> cases() {
  constexpr uint64_t k63 = uint64_t{1} << 63;
  constexpr uint32_t kQ8_0 = 8;
  std::vector<Case> all;
  const auto add = [&](const char* name, const B& b, std::vector<const char*> expected) {
    all.push_back({name, b.build(), std::move(expected)});
  };
  all.push_back({"Empty", "", {"the header needs 4 bytes"}});
  add("Magic", {.magic = "GGML"}, {"does not begin with 'GGUF'"});
  add("Version0", {.version = 0}, {"version 0"});
  add("Version1", {.version = 1}, {"version 1", "convert the model again"});
  add("Version4", {.version = 4}, {"version 4"});
  add("BigEndian", {.version = 3u << 24}, {"big-endian"});

  add("TensorCount", {.claimed_tensors = ~uint64_t{1}}, {"claims 18446744073709551614 tensors"});
  add("TensorCountLarge", {.claimed_tensors = 1 << 30}, {"claims 1073741824 tensors"});
  add("MetadataCount", {.claimed_metadata = k63}, {"claims 9223372036854775808 metadata entries"});
  add("TensorCountByOne", {.claimed_tensors = 1, .data = std::string(20, '\0')},
      {"the entry of tensor 0", "empty name"});

  all.push_back({"KeyLength",
                 "GGUF" + B::raw(3u) + B::raw(uint64_t{0}) + B::raw(uint64_t{1}) + B::raw(k63) +
                     std::string(64, 'k'),
                 {"metadata entry 0 needs 9223372036854775808 bytes"}});
  add("EmptyKey", B().entry("", GgufType::u8, "x"), {"metadata entry 0", "empty name"});
  add("LongKey", B().entry(std::string(65536, 'k'), GgufType::u8, "x"), {"name of 65536 bytes"});
  add("KeyTwice", B().entry("k", GgufType::u8, "x").entry("k", GgufType::u8, "y"),
      {"metadata 'k' occurs twice"});
  add("ValueType", B().entry("k", static_cast<GgufType>(13), "x"), {"'k'", "value type 13"});
  add("ValueTypeMaximal", B().entry("k", static_cast<GgufType>(~0u), "x"), {"'k'", "4294967295"});
  add("StringLength", B().entry("k", GgufType::string, B::raw(k63) + "x"),
      {"metadata 'k' needs 9223372036854775808 bytes"});
  add("StringLengthMaximal", B().entry("k", GgufType::string, B::raw(~uint64_t{0})),
      {"metadata 'k' needs 18446744073709551615 bytes"});
  add("Bool", B().entry("k", GgufType::boolean, "\x02"), {"'k' is 2 where a bool is 0 or 1"});
  add("BoolInArray", B().array("k", 7, 3, std::string("\x01\xff\x00", 3)), {"'k' is 255"});
  add("ArrayType", B().array("k", 99, 1, "x"), {"'k'", "value type 99"});
  add("ArrayOfArrays", B().array("k", 9, 1, B::raw(4u) + B::raw(uint64_t{0})),
      {"'k' is an array of arrays"});
  add("ArraySize", B().array("k", 0, k63, "x"), {"'k' claims 9223372036854775808 elements"});
  // 2^61 doubles are 2^64 bytes: the product wraps to 0.
  add("ArraySizeWraps", B().array("k", 12, uint64_t{1} << 61, ""),
      {"'k' claims 2305843009213693952"});
  add("ArrayOfStringsSize", B().array("k", 8, 1000, ""), {"'k' claims 1000 elements"});
  add("StringInArray", B().array("k", 8, 2, B::text("a") + B::raw(k63)), {"'k' needs"});
  add("EscapesInKey", B().entry("\x1b[2J", static_cast<GgufType>(13), ""), {"metadata '\\x1b[2J'"});

  add("Alignment0", with_alignment(0), {"general.alignment", "is 0"});
  add("Alignment3", with_alignment(3), {"general.alignment", "is 3"});
  add("Alignment48", with_alignment(48), {"general.alignment", "is 48"});
  add("Alignment2To31", with_alignment(1u << 31), {"general.alignment", "is 2147483648"});
  add("Alignment2To30", with_alignment(1u << 30), {"tensor 't'", "past the end of the data"});
  add("AlignmentString", B().entry("general.alignment", GgufType::string, B::text("32")),
      {"general.alignment", "should be an integer but its type is string"});
  add("AlignmentArray", B().array("general.alignment", 4, 1, B::raw(32u)),
      {"general.alignment", "array of 1 u32"});

  add("TensorName", with_tensor({.name = ""}), {"tensor 0", "empty name"});
  add("TensorTwice", B().tensor({}).tensor({.offset = 32}), {"two tensors are named 't'"});
  add("Dimensions5", with_tensor({.ne = {1, 1, 1, 1, 1}}), {"'t' has 5 dimensions"});
  add("DimensionZero", with_tensor({.ne = {4, 0}}), {"'t' has size 0 in dimension 1"});
  add("DimensionMaximal", with_tensor({.ne = {~uint64_t{0}}}), {"'t'", "18446744073709551615"});
  add("Dimension2To63", with_tensor({.ne = {k63}}), {"'t'", "9223372036854775808"});
  add("ElementsWrap", with_tensor({.ne = {uint64_t{1} << 32, uint64_t{1} << 32, 4}}),
      {"'t' has more than 2^63 elements"});
  add("BytesWrap", with_tensor({.ne = {uint64_t{1} << 62}}), {"'t' needs more than 2^64 bytes"});
  add("BytesPastEnd", with_tensor({.ne = {uint64_t{1} << 40}}),
      {"'t' has 4398046511104 bytes at offset 0, past the end of the data at 64"});
  add("OneElementTooMany", with_tensor({.ne = {17}}), {"'t' has 68 bytes"});
  add("RowsNotWholeBlocks", B().tensor({.ne = {48}, .type = kQ8_0}),
      {"'t' has rows of 48 elements", "Q8_0"});
  add("BlocksAcrossRows", B().tensor({.ne = {16, 4}, .type = kQ8_0}), {"rows of 16 elements"});
  add("TypeRemoved", with_tensor({.type = 4}), {"'t' has the unknown type 4"});
  add("TypeUnknown", with_tensor({.type = 1000}), {"'t' has the unknown type 1000"});
  add("OffsetPastEnd", with_tensor({.offset = 1 << 20}), {"'t' has 16 bytes at offset 1048576"});
  add("OffsetAtEnd", with_tensor({.offset = 64}), {"'t' has 16 bytes at offset 64"});
  add("OffsetWraps", with_tensor({.offset = ~uint64_t{31}}), {"offset 18446744073709551584"});
  add("OffsetNotAligned", with_tensor({.offset = 16}), {"offset 16", "alignment 32"});
  add("Overlap", B().tensor({.name = "a", .ne = {9}}).tensor({.name = "b", .offset = 32}),
      {"'b' at offset 32 overlaps tensor 'a'", "36 bytes at offset 0"});
  add("SameBytes", B().tensor({.name = "a"}).tensor({.name = "b"}), {"overlaps"});
  add("OverlapOutOfOrder", B().tensor({.name = "b", .offset = 32}).tensor({.name = "a", .ne = {9}}),
      {"'b' at offset 32 overlaps tensor 'a'"});
  add("ShardAlone", B().entry("split.count", GgufType::u16, B::raw(uint16_t{2})), {"split.count"});
  return all;
}

TEST(HostileGguf, EachEndsInAnErrorThatNamesTheFault) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const std::string message = open_and_read_all(c.bytes);
    EXPECT_THAT(message, StartsWith("bad.gguf: "));
    for (const char* expected : c.expected) EXPECT_THAT(message, HasSubstr(expected));
  }
}

TEST(HostileGguf, TheSameBuilderMakesFilesThatLoad) {
  EXPECT_EQ(open_and_read_all(B().build()), "");
  EXPECT_EQ(open_and_read_all(B().tensor({}).tensor({.name = "u", .offset = 32}).build()), "");
  EXPECT_EQ(open_and_read_all(B().tensor({.ne = {}}).build()), "");
  EXPECT_EQ(open_and_read_all(B().tensor({.ne = {16}}).build()), "");
}

std::string toy() {
  return read_file(MXGPT_ROOT "/tests/io/data/toy.gguf");
}

/// Offset of the tensor data in toy.gguf.
size_t header_bytes() {
  const std::string bytes = toy();
  const auto file = GgufFile::from_bytes(std::as_bytes(std::span(bytes)), "toy.gguf");
  const std::byte* first = file.tensors().at("scalars").bytes.data();
  return static_cast<size_t>(first - reinterpret_cast<const std::byte*>(bytes.data()));
}

TEST(HostileGguf, TruncatedAtEachByte) {
  const std::string bytes = toy();
  const size_t end = header_bytes() + 32 + 32 + 408;  // end of the last tensor, before its padding
  ASSERT_LE(end, bytes.size());
  for (size_t size = 0; size < end; ++size) {
    EXPECT_THAT(open_and_read_all(bytes.substr(0, size)), StartsWith("bad.gguf: ")) << size;
  }
  EXPECT_EQ(open_and_read_all(bytes.substr(0, end)), "");
}

TEST(HostileGguf, EachBitOfTheHeaderFlipped) {
  const std::string bytes = toy();
  int refused = 0;
  for (size_t bit = 0; bit < header_bytes() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    refused += !open_and_read_all(flipped).empty();
  }
  // Names, strings and numbers may be anything; lengths, types and counts may not.
  EXPECT_GT(refused, 1500);
}

/// Every change is either harmless or an Error that names the file.
TEST(HostileGguf, EachByteOfTheHeaderSetToItsExtremes) {
  const std::string bytes = toy();
  int rejected = 0;
  for (size_t i = 0; i < header_bytes(); ++i) {
    for (const char value : {'\x00', '\x7f', '\x80', '\xff'}) {
      std::string changed = bytes;
      changed[i] = value;
      const std::string error = open_and_read_all(changed);
      EXPECT_THAT(error, testing::AnyOf("", StartsWith("bad.gguf: "))) << "byte " << i;
      EXPECT_TRUE(changed != bytes || error.empty()) << "byte " << i;
      rejected += !error.empty();
    }
  }
  EXPECT_GT(rejected, 500);
}

}  // namespace
}  // namespace mxgpt::io
