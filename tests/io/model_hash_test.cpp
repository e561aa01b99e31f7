#include "io/model_hash.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/error.h"
#include "base/sha256.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"

namespace mxgpt::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string hash(std::string_view text) {
  Sha256 sha;
  sha.update(text);
  return sha.hex();
}

TEST(Provenance, AFileHasItsOwnHash) {
  const TemporaryDirectory directory;
  write_file(directory / "m.gguf", "abc");
  EXPECT_EQ(model_sha256(directory / "m.gguf"), kAbc);
  EXPECT_NO_THROW(require_sha256(directory / "m.gguf", kAbc));
  EXPECT_NO_THROW(require_sha256(
      directory / "m.gguf", "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"));
}

TEST(Provenance, ADirectoryHasTheHashOfItsManifest) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "sub");
  std::filesystem::create_directories(directory / ".cache");
  for (const char* name : {"b", "a", "sub/c", ".hidden", ".cache/x", "SHA256SUMS", "sub.d"}) {
    write_file(directory / name, "abc");
  }
  EXPECT_THAT(model_files(directory.path()), ElementsAre("a", "b", "sub.d", "sub/c"));
  std::string manifest;
  for (const char* name : {"a", "b", "sub.d", "sub/c"})
    manifest += fmt::format("{}  {}\n", kAbc, name);
  EXPECT_EQ(format_manifest(hash_files(directory.path(), model_files(directory.path()))), manifest);
  EXPECT_EQ(model_sha256(directory.path()), hash(manifest));
  EXPECT_NO_THROW(require_sha256(directory.path(), hash(manifest)));

  write_file(directory / "new", "");
  EXPECT_THROW(require_sha256(directory.path(), hash(manifest)), Error);
}

TEST(Provenance, ShardsAreOneModel) {
  const TemporaryDirectory directory;
  for (int i = 1; i <= 2; ++i)
    write_file(directory / fmt::format("m-{:05}-of-00002.gguf", i), "abc");
  const std::string manifest =
      fmt::format("{0}  m-00001-of-00002.gguf\n{0}  m-00002-of-00002.gguf\n", kAbc);
  EXPECT_EQ(model_sha256(directory / "m-00001-of-00002.gguf"), hash(manifest));
  EXPECT_EQ(model_sha256(directory / "m-00002-of-00002.gguf"), hash(manifest));
}

TEST(Provenance, MismatchesAreRefused) {
  const TemporaryDirectory directory;
  write_file(directory / "m.gguf", "abd");
  EXPECT_THAT(message_of([&] { require_sha256(directory / "m.gguf", kAbc); }),
              HasSubstr(fmt::format("expected {}", kAbc)));
  for (const std::string bad :
       {"", "abc", "g", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0"}) {
    EXPECT_THAT(message_of([&] { require_sha256(directory / "m.gguf", bad); }),
                HasSubstr("not a SHA-256 digest"))
        << bad;
  }
  EXPECT_THAT(message_of([&] { require_sha256(directory / "none.gguf", kAbc); }),
              HasSubstr("check the path"));
}

TEST(Manifest, ReadsWhatSha256sumWrites) {
  const auto files = parse_manifest(
      fmt::format("# comment\n{0}  a\n\n{0} *./b c\r\n\\{0}  x\\ny\\\\z", kAbc), "m");
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].path, "a");
  EXPECT_EQ(files[0].hash, kAbc);
  EXPECT_EQ(files[1].path, "b c");
  EXPECT_EQ(files[2].path, "x\ny\\z");
}

TEST(Manifest, NamesThatNeedEscapesSurvive) {
  const std::vector<FileHash> files = {{"x\ny\\z\r", kAbc}, {"plain", kAbc}};
  const auto again = parse_manifest(format_manifest(files), "m");
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].path, files[0].path);
  EXPECT_EQ(again[1].path, files[1].path);
}

TEST(Manifest, FaultsAreNamedByLine) {
  const auto error = [](const std::string& text) {
    return message_of([&] { parse_manifest(text, "m"); });
  };
  EXPECT_THAT(error(""), HasSubstr("lists no files"));
  EXPECT_THAT(error(fmt::format("{}  a\nxyz", kAbc)), HasSubstr("m: line 2: is not"));
  EXPECT_THAT(error("abc  file"), HasSubstr("is not 'hash  path'"));
  EXPECT_THAT(error(fmt::format("{}a", kAbc)), HasSubstr("is not 'hash  path'"));
  for (const char* outside : {"/etc/passwd", "../x", "a/../../x", ""}) {
    EXPECT_THAT(error(fmt::format("{}  {}", kAbc, outside)),
                HasSubstr("outside the model's folder"))
        << outside;
  }
}

}  // namespace
}  // namespace mxgpt::io
