#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace mxgpt {

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    throw Error(path.string(), std::string("cannot be opened: ") + std::strerror(errno),
                errno == ENOENT ? "check the path" : "check its permissions");
  }
  struct stat st {};
  const bool regular = ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  void* data = nullptr;
  int map_errno = 0;
  if (regular && st.st_size > 0) {
    data = ::mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) map_errno = errno;
  }
  if (!regular || map_errno) ::close(fd);
  if (!regular) throw Error(path.string(), "is not a regular file", "check the path");
  if (map_errno) {
    throw Error(path.string(),
                std::string("cannot be mapped into memory: ") + std::strerror(map_errno));
  }
  fd_ = fd;
  bytes_ = {static_cast<const std::byte*>(data), static_cast<size_t>(st.st_size)};
  // Huge pages, if the file system supports them, make memory-bound decoding a tenth faster
  // (docs/performance.md). Only a hint.
  constexpr size_t kHugePage = 2 << 20;
  if (bytes_.size() >= kHugePage) ::madvise(data, bytes_.size(), MADV_HUGEPAGE);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::release_pages(std::span<const std::byte> bytes) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = [](const std::byte* at) { return reinterpret_cast<uintptr_t>(at); };
  const uintptr_t first = std::max(address(bytes.data()), address(bytes_.data()));
  const uintptr_t end =
      std::min(address(bytes.data() + bytes.size()), address(bytes_.data() + bytes_.size()));
  // Whole pages only: the others contain adjacent bytes that may be in use.
  const uintptr_t begin = (first + page - 1) / page * page;
  if (begin + page > end) return;
  ::madvise(reinterpret_cast<void*>(begin), (end - begin) / page * page, MADV_DONTNEED);
}

bool MappedFile::contains(std::span<const std::byte> bytes) const {
  // Compare addresses as integers: the spans may belong to different objects.
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data());
  return begin >= first && begin + bytes.size() <= first + bytes_.size();
}

void MappedFile::read(std::span<const std::byte> bytes, std::byte* to) const {
  MXGPT_CHECK(contains(bytes), "{} bytes of another file", bytes.size());
  const auto offset = static_cast<off_t>(bytes.data() - bytes_.data());
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::pread(fd_, to + done, bytes.size() - done, offset + static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw Error(path_.string(), count == 0
                                      ? std::string("was truncated while being read")
                                      : std::string("cannot be read: ") + std::strerror(errno));
    }
    done += static_cast<size_t>(count);
  }
}

MappedFile::~MappedFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace mxgpt
