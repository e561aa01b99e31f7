#include "base/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace mxgpt {

namespace {
constexpr size_t kHugePage = 2 << 20;
constexpr size_t kCacheLine = 64;
}  // namespace

PageMemory::PageMemory(size_t bytes, std::string_view purpose) : data_(nullptr), bytes_(bytes) {
  if (bytes == 0) return;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw Error("memory",
                fmt::format("cannot reserve {:.2f} GiB for {}: {}",
                            static_cast<double>(bytes) / (1u << 30), purpose, std::strerror(errno)),
                "`mxgpt plan` lists the memory that each part needs");
  }
  data_ = static_cast<std::byte*>(data);
  // Only a hint: without huge pages everything works, more slowly.
  if (bytes >= kHugePage) ::madvise(data, bytes, MADV_HUGEPAGE);
}

PageMemory::~PageMemory() {
  if (data_) ::munmap(data_, bytes_);
}

std::byte* Arena::bump(size_t bytes) {
  const size_t at = used_;
  used_ += (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  if (!memory_.data()) return nullptr;
  MXGPT_CHECK(used_ <= memory_.size(), "{} bytes of {}", used_, memory_.size());
  return memory_.data() + at;
}

}  // namespace mxgpt
