// safetensors: a file of the `safetensors` package (make_fixtures.py), hostile headers, sharded
// checkpoints.
#include "io/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <memory>

#include "base/byte_reader.h"
#include "base/error.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"

namespace mxgpt::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const std::filesystem::path kToy = MXGPT_ROOT "/tests/io/data/toy.safetensors";

std::string file_of(std::string_view header, std::string_view data = {}) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size).append(header).append(data);
}

/// Reads all of a copy whose allocation ends with its bytes, as in gguf_bytes.h.
std::string open_and_read_all(std::string_view bytes) {
  const auto copy = std::make_unique<std::byte[]>(bytes.size());
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  try {
    const auto file = SafetensorsFile::from_bytes({copy.get(), bytes.size()}, "bad.safetensors");
    volatile size_t sink = 0;
    for (const FileTensor& tensor : file.tensors()) {
      for (const std::byte b : tensor.bytes) sink = sink + std::to_integer<size_t>(b);
    }
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Safetensors, ReadsFilesOfThePackage) {
  const auto file = SafetensorsFile::open(kToy);
  ASSERT_EQ(file.tensors().size(), 3u);
  const FileTensor& a = file.tensors().at("a");
  EXPECT_EQ(a.type, "F32");
  EXPECT_EQ(a.format, quant::Format::f32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(load_le<float>(&a.bytes[i * 4]), static_cast<float>(i));
  const FileTensor& b = file.tensors().at("b");
  EXPECT_EQ(b.type, "I32");
  EXPECT_EQ(b.format, std::nullopt);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(load_le<int32_t>(&b.bytes[i * 4]), static_cast<int32_t>(i));
  EXPECT_THAT(file.tensors().at("c").shape, ElementsAre(0, 8));
  EXPECT_TRUE(file.tensors().at("c").bytes.empty());
}

TEST(Safetensors, WritesTheBytesOfThePackage) {
  const TemporaryDirectory directory;
  const std::vector<float> a = {0, 1, 2, 3, 4, 5};
  const std::vector<int32_t> b = {0, 1, 2, 3};
  SafetensorsWriter w(directory / "toy.safetensors");
  w.add_tensor("a", "F32", std::array<int64_t, 2>{2, 3});
  w.add_tensor("b", "I32", std::array<int64_t, 1>{4});
  w.add_tensor("c", "I32", std::array<int64_t, 2>{0, 8});
  w.write(std::as_bytes(std::span(a)).first(5));
  w.write(std::as_bytes(std::span(a)).subspan(5));
  w.write(std::as_bytes(std::span(b)));
  w.finish();
  EXPECT_EQ(read_file(directory / "toy.safetensors"), read_file(kToy));
}

TEST(Safetensors, MetadataOfTheFile) {
  const std::string bytes = file_of(R"({"__metadata__":{"format":"pt"}})");
  const auto file = SafetensorsFile::from_bytes(std::as_bytes(std::span(bytes)), "x");
  EXPECT_THAT(file.metadata(), ElementsAre(std::pair("format", "pt")));
  EXPECT_EQ(file.tensors().size(), 0u);
}

TEST(Safetensors, HostileHeadersEndInAnErrorThatNamesTheFault) {
  const std::string data(16, 'x');
  const auto tensor = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{"t":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                       offsets);
  };
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += "1,";
  const struct {
    std::string bytes;
    const char* expected;
  } cases[] = {
      {"", "the header needs 8 bytes"},
      {"1234567", "the header needs 8 bytes"},
      {std::string(8, '\xff'), "claims 18446744073709551615 bytes"},
      {std::string("\x01\xe1\xf5\x05\0\0\0\0", 8), "claims 100000001 bytes"},
      {std::string("\x10\0\0\0\0\0\0\0{}", 10), "the header needs 16 bytes at byte 8"},
      {file_of(""), "does not begin with '{'"},
      {file_of("[]"), "does not begin with '{'"},
      {file_of("{"), "is not valid JSON"},
      {file_of("{}x"), "is not valid JSON"},
      {file_of(std::string(100000, '[').insert(0, "{\"a\":")), "is not valid JSON"},
      {file_of("{}", data), "16 bytes after its last tensor"},
      {file_of(R"({"t":1})"), "tensor 't': should be an object"},
      {file_of(R"({"t":{}})"), "'dtype' is missing"},
      {file_of(R"({"__metadata__":{"a":1}})"), "not a string at 'a'"},
      {file_of(tensor("1", "[4]", "[0,16]"), data), "dtype: should be a string"},
      {file_of(tensor("\"F31\"", "[4]", "[0,16]"), data), "unknown dtype 'F31'"},
      {file_of(tensor("\"F32\"", "4", "[0,16]"), data), "shape: should be an array"},
      {file_of(tensor("\"F32\"", "[-4]", "[0,16]"), data), "is -4, outside 0"},
      {file_of(tensor("\"F32\"", "[4.5]", "[0,16]"), data), "should be an integer"},
      {file_of(tensor("\"F32\"", "[1e300]", "[0,16]"), data), "should be an integer"},
      {file_of(tensor("\"F32\"", "[18446744073709551615]", "[0,16]"), data),
       "should be an integer"},
      {file_of(tensor("\"F32\"", "[4611686018427387904,4]", "[0,16]"), data),
       "more than 2^64 bits"},
      {file_of(tensor("\"F32\"", "[1073741824,1073741824,1073741824,4]", "[0,16]"), data),
       "more than 2^64 bits"},
      {file_of(tensor("\"F32\"", "[5]", "[0,16]"), data), "has 16 bytes at its offsets"},
      {file_of(tensor("\"F4\"", "[3]", "[0,1]"), "x"), "ends inside a byte"},
      {file_of(tensor("\"U8\"", "[" + ones + "1]", "[0,16]"), data), "has 65 dimensions"},
      {file_of(tensor("\"F32\"", "[4]", "[16,0]"), data), "are 16 and 0"},
      {file_of(tensor("\"F32\"", "[4]", "[0,17]"), data),
       "are 0 and 17, but the file has 16 bytes"},
      {file_of(tensor("\"F32\"", "[4]", "[0]"), data), "two offsets"},
      {file_of(tensor("\"F32\"", "[4]", "[-1,16]"), data), "is -1, outside"},
      {file_of(tensor("\"F32\"", "[4]", "[9223372036854775807,9223372036854775807]"), data),
       "should be an integer"},
      {file_of(tensor("\"F32\"", "[3]", "[4,16]"), data), "leaving a gap from byte 0"},
      {file_of(tensor("\"F32\"", "[3]", "[0,12]"), data), "4 bytes after its last tensor"},
      {file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
               data),
       "tensor 'b' begins at byte 8 of the data, overlapping the tensor that ends at byte 12"},
      {file_of(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
               R"("b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
               data),
       "overlapping"},
      {file_of(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
               R"("\u0061":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}})",
               data),
       "the header contains 'a' twice"},
      {file_of(R"({"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}})", data),
       "the header contains 'dtype' twice"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.bytes.substr(0, 200));
    EXPECT_THAT(open_and_read_all(c.bytes),
                AllOf(StartsWith("bad.safetensors: "), HasSubstr(c.expected)));
  }
  EXPECT_EQ(open_and_read_all(file_of(tensor("\"F32\"", "[4]", "[0,16]"), data)), "");
  EXPECT_EQ(open_and_read_all(file_of(tensor("\"F4\"", "[2,16]", "[0,16]"), data)), "");
}

TEST(Safetensors, TruncatedAtEachByteAndEachBitFlipped) {
  const std::string bytes = read_file(kToy);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(open_and_read_all(bytes.substr(0, size)), StartsWith("bad.safetensors: ")) << size;
  }
  int refused = 0;
  for (size_t bit = 0; bit < (bytes.size() - 40) * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    refused += !open_and_read_all(flipped).empty();
  }
  EXPECT_GT(refused, 1000);
}

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override { write_file(directory_ / "config.json", R"({"model_type":"toy"})"); }

  void write_shard(const char* name, std::initializer_list<const char*> tensors) const {
    SafetensorsWriter w(directory_ / name);
    for (const char* tensor : tensors) w.add_tensor(tensor, "F32", std::array<int64_t, 1>{1});
    const float one = 1;
    for (size_t i = 0; i < tensors.size(); ++i) w.write(std::as_bytes(std::span(&one, 1)));
    w.finish();
  }
  void write_index(const std::string& map) const {
    write_file(directory_ / "model.safetensors.index.json", R"({"weight_map":)" + map + "}");
  }
  std::string open_error() const {
    return message_of([&] { Checkpoint::open(directory_.path()); });
  }

  TemporaryDirectory directory_;
};

TEST_F(CheckpointTest, OneFile) {
  write_shard("model.safetensors", {"a", "b"});
  const auto checkpoint = Checkpoint::open(directory_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.config()["model_type"].string(), "toy");
  EXPECT_THAT(message_of([&] { checkpoint.config()["layers"]; }),
              HasSubstr("config.json: the field 'layers' is missing"));
}

TEST_F(CheckpointTest, Shards) {
  write_shard("x-1.safetensors", {"a", "b"});
  write_shard("x-2.safetensors", {"c"});
  write_index(R"({"a":"x-1.safetensors","b":"x-1.safetensors","c":"x-2.safetensors"})");
  const auto checkpoint = Checkpoint::open(directory_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
  EXPECT_EQ(load_le<float>(checkpoint.tensors().at("c").bytes.data()), 1.0f);
}

TEST_F(CheckpointTest, FaultsAreNamed) {
  EXPECT_THAT(open_error(), HasSubstr("contains neither model.safetensors nor"));
  write_shard("x-1.safetensors", {"a"});
  write_index(R"({"a":"x-1.safetensors","c":"x-2.safetensors"})");
  EXPECT_THAT(open_error(),
              AllOf(HasSubstr("x-2.safetensors: this shard is missing"), HasSubstr("all 2")));
  write_shard("x-2.safetensors", {"b"});
  EXPECT_THAT(open_error(),
              HasSubstr("assigns tensor 'c' to x-2.safetensors, which does not contain it"));
  write_shard("x-2.safetensors", {"a", "c"});
  EXPECT_THAT(open_error(), HasSubstr("two tensors are named 'a'"));
  write_index("{}");
  EXPECT_THAT(open_error(), HasSubstr("weight_map: is empty"));
  write_index("[]");
  EXPECT_THAT(open_error(), HasSubstr("weight_map: should be an object"));
  std::filesystem::remove(directory_ / "config.json");
  EXPECT_THAT(open_error(), HasSubstr("contains no config.json"));
}

TEST_F(CheckpointTest, ShardsStayInTheFolder) {
  for (const char* hostile :
       {R"("/etc/passwd")", R"("/x.safetensors")", R"("../x.safetensors")",
        R"("a/../../x.safetensors")", R"("a\\x.safetensors")", R"("x.safetensors\u0000")",
        R"("\u0000/x.safetensors")", R"("")", R"("..")", "1", "null"}) {
    write_index(fmt::format(R"({{"a":{}}})", hostile));
    EXPECT_THAT(open_error(), HasSubstr("does not name a .safetensors file in this folder"))
        << hostile;
  }
}

TEST(Checkpoint, OpensTheShippedModel) {
  const auto checkpoint = Checkpoint::open(MXGPT_ROOT "/models/gpt-oss-nano");
  EXPECT_EQ(checkpoint.config()["model_type"].string(), "gpt_oss");
  const FileTensor& blocks =
      checkpoint.tensors().at("model.layers.0.mlp.experts.gate_up_proj_blocks");
  EXPECT_EQ(blocks.type, "U8");
  EXPECT_EQ(blocks.shape.size(), 4u);
  EXPECT_EQ(checkpoint.tensors().at("model.embed_tokens.weight").format, quant::Format::bf16);
}

}  // namespace
}  // namespace mxgpt::io
