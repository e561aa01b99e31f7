#include "base/file_writer.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <iterator>

#include "base/error.h"
#include "support/temporary_directory.h"

namespace mxgpt {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

TEST(FileWriter, NothingIsSeenBeforeCommit) {
  const TemporaryDirectory directory;
  write_file(directory / "out", "old");
  {
    FileWriter writer(directory / "out");
    writer.write("new");
    EXPECT_EQ(read_file(directory / "out"), "old");
    writer.commit();
    EXPECT_EQ(read_file(directory / "out"), "new");
  }
  EXPECT_EQ(files_in(directory.path()), 1u);
}

TEST(FileWriter, WithoutCommitNothingRemains) {
  const TemporaryDirectory directory;
  {
    FileWriter writer(directory / "out");
    writer.write("half");
  }
  EXPECT_EQ(files_in(directory.path()), 0u);
}

TEST(FileWriter, KeepsOrderAcrossItsBuffer) {
  const TemporaryDirectory directory;
  FileWriter writer(directory / "out");
  std::string expected;
  for (const size_t size : {1u, 1000000u, 48575u, 1u, 3000000u, 0u, 1048576u, 7u}) {
    const std::string piece(size, static_cast<char>('a' + expected.size() % 26));
    writer.write(piece);
    expected += piece;
    EXPECT_EQ(writer.size(), expected.size());
  }
  writer.commit();
  EXPECT_EQ(read_file(directory / "out"), expected);
}

TEST(FileWriter, TwoWritersOfOnePathDoNotMix) {
  const TemporaryDirectory directory;
  FileWriter first(directory / "out"), second(directory / "out");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(directory / "out"), "first");
  EXPECT_EQ(files_in(directory.path()), 1u);
}

TEST(FileWriter, ALinkStaysALink) {
  const TemporaryDirectory directory;
  write_file(directory / "target", "old");
  fs::create_symlink("target", directory / "link");
  FileWriter writer(directory / "link");
  writer.write("new");
  writer.commit();
  EXPECT_TRUE(fs::is_symlink(directory / "link"));
  EXPECT_EQ(read_file(directory / "target"), "new");
}

TEST(FileWriter, PermissionsFollowTheUmask) {
  const TemporaryDirectory directory;
  const mode_t before = ::umask(027);
  FileWriter writer(directory / "out");
  writer.commit();
  ::umask(before);
  EXPECT_EQ(fs::status(directory / "out").permissions(), fs::perms(0640));
}

std::string message_of(const fs::path& path) {
  try {
    FileWriter writer(path);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(FileWriter, RefusesWhatItCannotReplace) {
  const TemporaryDirectory directory;
  EXPECT_THAT(message_of("/dev/null"), HasSubstr("not a regular file"));
  EXPECT_THAT(message_of(directory.path()), HasSubstr("not a regular file"));
  EXPECT_THAT(message_of(directory / "missing" / "out"), HasSubstr("create its folder first"));
}

TEST(FileWriter, AFailingDiskIsAnErrorAndLeavesNothing) {
  const TemporaryDirectory directory;
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto signal_before = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  {
    FileWriter writer(directory / "out");
    writer.write(std::string(5000, 'x'));
    EXPECT_THROW(writer.commit(), Error);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, signal_before);
  EXPECT_EQ(files_in(directory.path()), 0u);
}

}  // namespace
}  // namespace mxgpt
