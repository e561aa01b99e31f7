#include "base/file_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace mxgpt {

namespace {

constexpr size_t kBufferBytes = 1 << 20;

/// Creates a new file `stem`.<pid>.<n>.part with the permissions of the umask.
int open_temporary(const std::filesystem::path& stem, std::filesystem::path& chosen) {
  for (int n = 0;; ++n) {
    chosen = fmt::format("{}.{}.{}.part", stem.string(), ::getpid(), n);
    const int fd = ::open(chosen.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST || n == 1000) return fd;
  }
}

}  // namespace

FileWriter::FileWriter(const std::filesystem::path& path) : path_(path) {
  std::error_code ignored;
  // Replace the target of a symbolic link, not the link.
  if (std::filesystem::is_symlink(path_, ignored)) {
    path_ = std::filesystem::weakly_canonical(path_, ignored);
  }
  if (std::filesystem::exists(path_, ignored) &&
      !std::filesystem::is_regular_file(path_, ignored)) {
    throw Error(path.string(), "is not a regular file and cannot be replaced",
                "choose another path");
  }
  fd_ = open_temporary(path_, temporary_);
  if (fd_ < 0) {
    throw Error(
        path.string(), fmt::format("cannot be written: {}", std::strerror(errno)),
        errno == ENOENT ? "create its folder first" : "check the permissions of its folder");
  }
  buffer_.reserve(kBufferBytes);
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void FileWriter::fail(int error) const {
  throw Error(path_.string(), fmt::format("cannot be written: {}", std::strerror(error)),
              error == ENOSPC ? "free some space on the disk" : "");
}

void FileWriter::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) fail(errno);
    if (written > 0) bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void FileWriter::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void FileWriter::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() >= kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    write_through(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
}

void FileWriter::commit() {
  flush();
  if (::fsync(fd_) != 0) fail(errno);
  if (::close(std::exchange(fd_, -1)) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail(error);
  }
  // The rename is durable once the folder is synced. Ignore file systems that cannot sync folders.
  const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
}

}  // namespace mxgpt
