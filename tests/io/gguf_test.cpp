// Reads GGUF files of the `gguf` package (make_fixtures.py), and writes equal ones.
#include "io/gguf.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "io/gguf_writer.h"
#include "support/gguf_bytes.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"

namespace mxgpt::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kData = MXGPT_ROOT "/tests/io/data";

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// The contents that make_fixtures.py writes.
struct Toy {
  std::vector<float> scalars = {0, 1, 2, 3, 4};
  std::vector<uint16_t> matrix = {0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600,
                                  0x4700, 0x4800, 0x4880, 0x4900, 0x4980};  // 0 to 11 in f16
  std::vector<uint8_t> experts;

  Toy() {
    for (int i = 0; i < 2 * 3 * 2 * 34; ++i) experts.push_back(static_cast<uint8_t>(i % 251));
  }
};

void expect_toy(const GgufFile& file) {
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.string("general.architecture"), "toy");
  EXPECT_EQ(m.integer("toy.u8", 0, 255), 200);
  EXPECT_EQ(m.integer("toy.i8", -128, 127), -100);
  EXPECT_EQ(m.integer("toy.u16", 0, 65535), 60000);
  EXPECT_EQ(m.integer("toy.i16", -32768, 0), -30000);
  EXPECT_EQ(m.integer("toy.u32", 0, INT64_MAX), 4000000000);
  EXPECT_EQ(m.integer("toy.i32", INT64_MIN, 0), -2000000000);
  EXPECT_EQ(m.integer("toy.i64", INT64_MIN, 0), INT64_MIN);
  EXPECT_EQ(m.find("toy.u64")->elements(1)[0], GgufScalar(UINT64_MAX));
  EXPECT_EQ(m.number("toy.f32"), double{0.1f});
  EXPECT_EQ(m.number("toy.f64"), 1e300);
  EXPECT_TRUE(m.boolean("toy.true"));
  EXPECT_FALSE(m.boolean("toy.false"));
  EXPECT_EQ(m.string("toy.string"), "grüße\n");
  const GgufStrings strings = m.strings("toy.strings");
  EXPECT_EQ(strings.size(), 4u);
  EXPECT_THAT(std::vector<std::string_view>(strings.begin(), strings.end()),
              ElementsAre("", "a", "βγ", "<|end|>"));
  EXPECT_THAT(m.integers("toy.i32s", -2, 3), ElementsAre(1, -2, 3));
  EXPECT_THAT(m.numbers("toy.f32s"), ElementsAre(0.5f, -1.5f));
  EXPECT_THAT(m.find("toy.bools")->elements(9), ElementsAre(true, false, true));

  const Toy toy;
  ASSERT_EQ(file.tensors().size(), 3u);
  const FileTensor& scalars = file.tensors().at("scalars");
  EXPECT_EQ(scalars.type, "F32");
  EXPECT_EQ(scalars.format, quant::Format::f32);
  EXPECT_THAT(scalars.shape, ElementsAre(5));
  EXPECT_TRUE(std::ranges::equal(scalars.bytes, std::as_bytes(std::span(toy.scalars))));
  const FileTensor& matrix = file.tensors().at("matrix");
  EXPECT_EQ(matrix.format, quant::Format::f16);
  EXPECT_THAT(matrix.shape, ElementsAre(3, 4));
  EXPECT_TRUE(std::ranges::equal(matrix.bytes, std::as_bytes(std::span(toy.matrix))));
  const FileTensor& experts = file.tensors().at("experts");
  EXPECT_EQ(experts.type, "Q8_0");
  EXPECT_THAT(experts.shape, ElementsAre(2, 3, 64));
  EXPECT_TRUE(std::ranges::equal(experts.bytes, std::as_bytes(std::span(toy.experts))));
}

TEST(Gguf, ReadsFilesOfTheGgufPackage) {
  for (const char* name : {"toy.gguf", "toy-aligned.gguf"}) {
    const auto file = GgufFile::open(kData / name);
    EXPECT_EQ(file.version(), 3u);
    expect_toy(file);
  }
}

TEST(Gguf, ReadsVersion2) {
  std::string bytes = read_file(kData / "toy.gguf");
  bytes[4] = 2;
  const auto file = GgufFile::from_bytes(bytes_of(bytes), "toy.gguf");
  EXPECT_EQ(file.version(), 2u);
  expect_toy(file);
}

TEST(Gguf, WritesTheBytesOfTheGgufPackage) {
  const TemporaryDirectory directory;
  const Toy toy;
  for (const uint32_t alignment : {0u, 256u}) {
    GgufWriter w(directory / "toy.gguf");
    w.add<std::string_view>("general.architecture", "toy");
    if (alignment) w.add<uint32_t>("general.alignment", alignment);
    w.add<uint8_t>("toy.u8", 200);
    w.add<int8_t>("toy.i8", -100);
    w.add<uint16_t>("toy.u16", 60000);
    w.add<int16_t>("toy.i16", -30000);
    w.add<uint32_t>("toy.u32", 4000000000);
    w.add<int32_t>("toy.i32", -2000000000);
    w.add<float>("toy.f32", 0.1f);
    w.add<bool>("toy.true", true);
    w.add<bool>("toy.false", false);
    w.add<std::string_view>("toy.string", "grüße\n");
    w.add<uint64_t>("toy.u64", UINT64_MAX);
    w.add<int64_t>("toy.i64", INT64_MIN);
    w.add<double>("toy.f64", 1e300);
    w.add_array<std::string_view>("toy.strings",
                                  std::vector<std::string_view>{"", "a", "βγ", "<|end|>"});
    w.add_array<int32_t>("toy.i32s", std::vector<int32_t>{1, -2, 3});
    w.add_array<float>("toy.f32s", std::vector<float>{0.5, -1.5});
    w.add_array<bool>("toy.bools", std::array{true, false, true});
    w.add_tensor("scalars", quant::Format::f32, std::array<int64_t, 1>{5});
    w.add_tensor("matrix", quant::Format::f16, std::array<int64_t, 2>{3, 4});
    w.add_tensor("experts", quant::Format::q8_0, std::array<int64_t, 3>{2, 3, 64});
    EXPECT_EQ(w.tensor_bytes(), 20u + 24 + 408);
    w.write(std::as_bytes(std::span(toy.scalars)));
    w.write(std::as_bytes(std::span(toy.matrix)).first(7));
    w.write(std::as_bytes(std::span(toy.matrix)).subspan(7));
    for (const uint8_t& byte : toy.experts) w.write(std::as_bytes(std::span(&byte, 1)));
    EXPECT_FALSE(std::filesystem::exists(directory / "toy.gguf"));
    w.finish();
    EXPECT_EQ(read_file(directory / "toy.gguf"),
              read_file(kData / (alignment ? "toy-aligned.gguf" : "toy.gguf")));
    std::filesystem::remove(directory / "toy.gguf");
  }
}

TEST(Gguf, ACopyIsEqual) {
  const TemporaryDirectory directory;
  for (const char* name : {"toy.gguf", "toy-aligned.gguf"}) {
    const auto file = GgufFile::open(kData / name);
    GgufWriter w(directory / name);
    for (const auto& [key, value] : file.metadata().entries()) w.add(key, value);
    for (const FileTensor& t : file.tensors()) w.add_tensor(t.name, *t.format, t.shape);
    for (const FileTensor& t : file.tensors()) w.write(t.bytes);
    w.finish();
    EXPECT_EQ(read_file(directory / name), read_file(kData / name));
  }
}

TEST(Gguf, AnyAlignmentOfTheFormat) {
  const TemporaryDirectory directory;
  for (uint32_t alignment = 1; alignment <= 1 << 16; alignment *= 2) {
    const std::vector<float> values = {1, 2, 3};
    GgufWriter w(directory / "x.gguf");
    w.add<uint32_t>("general.alignment", alignment);
    for (const char* name : {"a", "b"})
      w.add_tensor(name, quant::Format::f32, std::array<int64_t, 1>{3});
    for (int i = 0; i < 2; ++i) w.write(std::as_bytes(std::span(values)));
    w.finish();
    const auto file = GgufFile::open(directory / "x.gguf");
    for (const char* name : {"a", "b"}) {
      EXPECT_TRUE(
          std::ranges::equal(file.tensors().at(name).bytes, std::as_bytes(std::span(values))));
    }
  }
}

TEST(Gguf, TypesThatAreNoFormatAreListed) {
  const std::string i32 = GgufBytes().tensor({.ne = {4}, .type = 26}).build();
  const auto file = GgufFile::from_bytes(bytes_of(i32), "x");
  EXPECT_EQ(file.tensors().at("t").type, "I32");
  EXPECT_EQ(file.tensors().at("t").format, std::nullopt);
}

TEST(Gguf, FindsTensorsByName) {
  const auto file = GgufFile::open(kData / "toy.gguf");
  EXPECT_EQ(file.tensors().find("nothing"), nullptr);
  EXPECT_EQ(file.tensors().find(""), nullptr);
  EXPECT_THAT(message_of([&] { file.tensors().at("nothing"); }),
              AllOf(HasSubstr("toy.gguf"), HasSubstr("the tensor 'nothing' is missing")));
}

TEST(Gguf, MissingFile) {
  EXPECT_THAT(message_of([] { GgufFile::open("/nowhere/model.gguf"); }),
              HasSubstr("check the path"));
  EXPECT_TRUE(is_gguf(kData / "toy.gguf"));
  EXPECT_FALSE(is_gguf(kData / "toy.safetensors"));
  EXPECT_FALSE(is_gguf(kData));
  EXPECT_FALSE(is_gguf("/nowhere"));
}

TEST(GgufMetadata, GettersSayWhatIsWrong) {
  const auto file = GgufFile::open(kData / "toy.gguf");
  const GgufMetadata& m = file.metadata();
  const auto error = [&](auto get) { return message_of([&] { get(m); }); };
  EXPECT_THAT(error([](auto& d) { d.integer("toy.none", 0, 1); }),
              HasSubstr("toy.gguf: metadata 'toy.none' is missing"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.string", 0, 1); }),
              HasSubstr("metadata 'toy.string' should be an integer but its type is string"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.f32", 0, 1); }), HasSubstr("its type is f32"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.true", 0, 1); }), HasSubstr("its type is bool"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.i32s", 0, 1); }),
              HasSubstr("its type is array of 3 i32"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.u16", 0, 59999); }),
              HasSubstr("'toy.u16' is 60000, outside 0 to 59999"));
  EXPECT_THAT(error([](auto& d) { d.integer("toy.u64", 0, INT64_MAX); }),
              HasSubstr("'toy.u64' is 18446744073709551615, outside"));
  EXPECT_THAT(error([](auto& d) { d.number("toy.string"); }), HasSubstr("should be a number"));
  EXPECT_THAT(error([](auto& d) { d.boolean("toy.u8"); }), HasSubstr("should be a boolean"));
  EXPECT_THAT(error([](auto& d) { d.string("toy.strings"); }),
              HasSubstr("should be a string but its type is array of 4 strings"));
  EXPECT_THAT(error([](auto& d) { d.strings("toy.string"); }),
              HasSubstr("should be an array of strings but its type is string"));
  EXPECT_THAT(error([](auto& d) { d.integers("toy.strings", 0, 1); }),
              HasSubstr("array of integers"));
  EXPECT_THAT(error([](auto& d) { d.integers("toy.i32s", 0, 9); }),
              HasSubstr("'toy.i32s' holds -2 at index 1, outside 0 to 9"));
  EXPECT_THAT(error([](auto& d) { d.numbers("toy.bools"); }), HasSubstr("array of numbers"));
}

TEST(GgufMetadata, FallbacksAreForMissingKeysOnly) {
  const auto file = GgufFile::open(kData / "toy.gguf");
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.integer_or("toy.none", 7, 0, 1), 7);
  EXPECT_EQ(m.integer_or("toy.u8", 7, 0, 255), 200);
  EXPECT_EQ(m.number_or("toy.none", 0.5), 0.5);
  EXPECT_EQ(m.boolean_or("toy.none", true), true);
  EXPECT_EQ(m.string_or("toy.none", "x"), "x");
  EXPECT_THROW(m.integer_or("toy.string", 7, 0, 1), Error);
}

TEST(GgufMetadata, NumbersAreFinite) {
  using B = GgufBytes;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string bytes = B().entry("nan", GgufType::f32, B::raw(nan))
                                .array("infinite", 6, 1, B::raw(HUGE_VALF))
                                .array("huge", 12, 1, B::raw(1e300))
                                .build();
  const auto file = GgufFile::from_bytes(bytes_of(bytes), "x");
  EXPECT_THROW(file.metadata().number("nan"), Error);
  EXPECT_THROW(file.metadata().numbers("infinite"), Error);
  EXPECT_THROW(file.metadata().numbers("huge"), Error);
}

class SplitGguf : public testing::Test {
 protected:
  static constexpr int kShards = 3;

  std::filesystem::path shard(int number) const {
    return directory_ / fmt::format("m-{:05}-of-00003.gguf", number);
  }

  /// Writes a shard with one tensor, whose value is the shard's number.
  void write_shard(int number, uint16_t no, uint16_t count, const std::string& tensor) const {
    GgufWriter w(shard(number));
    if (number == 1) w.add<std::string_view>("general.architecture", "toy");
    w.add<uint16_t>("split.no", no);
    w.add<uint16_t>("split.count", count);
    w.add<int32_t>("split.tensors.count", 3);
    w.add_tensor(tensor, quant::Format::f32, std::array<int64_t, 1>{1});
    const float value = static_cast<float>(number);
    w.write(std::as_bytes(std::span(&value, 1)));
    w.finish();
  }

  void SetUp() override {
    for (int i = 1; i <= kShards; ++i) {
      write_shard(i, static_cast<uint16_t>(i - 1), kShards, fmt::format("t{}", i));
    }
  }

  std::string open_error(int number) const {
    return message_of([&] { GgufFile::open(shard(number)); });
  }

  TemporaryDirectory directory_;
};

TEST_F(SplitGguf, OpensFromAnyShard) {
  for (int opened = 1; opened <= kShards; ++opened) {
    const auto file = GgufFile::open(shard(opened));
    EXPECT_EQ(file.metadata().string("general.architecture"), "toy");
    ASSERT_EQ(file.tensors().size(), 3u);
    for (int i = 1; i <= kShards; ++i) {
      EXPECT_EQ(load_le<float>(file.tensors().at(fmt::format("t{}", i)).bytes.data()), i);
    }
  }
}

TEST_F(SplitGguf, AMissingShardIsNamed) {
  std::filesystem::remove(shard(2));
  EXPECT_THAT(open_error(1), AllOf(HasSubstr("m-00002-of-00003.gguf: this shard is missing"),
                                   HasSubstr("all 3 shards")));
}

TEST_F(SplitGguf, NamesAndNumbersMustAgree) {
  std::filesystem::rename(shard(1), directory_ / "renamed.gguf");
  EXPECT_THAT(message_of([&] { GgufFile::open(directory_ / "renamed.gguf"); }),
              HasSubstr("is shard 1 of 3, but its name does not end in -00001-of-00003.gguf"));
  std::filesystem::rename(directory_ / "renamed.gguf", shard(1));

  write_shard(2, 2, 3, "t2");
  EXPECT_THAT(open_error(1),
              AllOf(HasSubstr("00002-of"), HasSubstr("'split.no' is 2, outside 1 to 1")));
  write_shard(2, 1, 4, "t2");
  EXPECT_THAT(open_error(1), AllOf(HasSubstr("00002-of"), HasSubstr("split.count")));
  write_shard(2, 3, 3, "t2");
  EXPECT_THAT(open_error(2), HasSubstr("'split.no' is 3, outside 0 to 2"));
}

TEST_F(SplitGguf, TensorsMustAddUp) {
  write_shard(2, 1, 3, "t1");
  EXPECT_THAT(open_error(1), HasSubstr("two tensors are named 't1'"));
  GgufWriter w(shard(2));
  w.add<uint16_t>("split.no", 1);
  w.add<uint16_t>("split.count", 3);
  w.finish();
  EXPECT_THAT(open_error(1), HasSubstr("'split.tensors.count' is 3, but the shards hold 2"));
}

TEST_F(SplitGguf, ABrokenShardIsNamed) {
  write_file(shard(3), "GGUF");
  EXPECT_THAT(open_error(1), HasSubstr("m-00003-of-00003.gguf: the header needs"));
}

TEST(GgufShardPaths, ByName) {
  EXPECT_THAT(gguf_shard_paths("d/m-00002-of-00002.gguf"),
              ElementsAre("d/m-00001-of-00002.gguf", "d/m-00002-of-00002.gguf"));
  for (const char* single : {"m.gguf", "d/m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
                             "m-0001-of-0002.gguf", "m-00001-of-00002.bin", "-of-.gguf"}) {
    EXPECT_THAT(gguf_shard_paths(single), ElementsAre(single));
  }
}

}  // namespace
}  // namespace mxgpt::io
