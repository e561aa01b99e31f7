#include "model/cpu_runner.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"

namespace mxgpt {

PageMemory::PageMemory(size_t bytes) : bytes_(std::max<size_t>(bytes, 1)) {
  void* data = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw Error("memory",
                fmt::format("cannot reserve {:.1f} GiB for the KV cache",
                            static_cast<double>(bytes) / (1u << 30)),
                "take a smaller context");
  }
  data_ = static_cast<std::byte*>(data);
}

PageMemory::~PageMemory() {
  if (data_) ::munmap(data_, bytes_);
}

namespace {

cpu::Limits limits_of(const Config& c, const RunnerOptions& options) {
  return {.rows = std::max(options.max_rows, options.max_logit_rows),
          .hidden = c.hidden,
          .widest = std::max(c.hidden, c.heads * c.head_dim),
          .intermediate = c.intermediate,
          .experts = c.experts,
          .top_k = c.top_k};
}

}  // namespace

CpuMemory::CpuMemory(const Config& c, const RunnerOptions& options)
    : backend(limits_of(c, options), options.precision, options.observer, options.accumulate),
      x_(options.max_rows * c.hidden),
      q_(options.max_rows * c.heads * c.head_dim),
      attended_(q_.size()),
      logits_(options.max_logit_rows * c.vocabulary) {
  step = {.x = x_.data(), .q = q_.data(), .attended = attended_.data(), .logits = logits_.data()};
  const size_t kinds = c.rope_of(KvGroup::full) == c.rope_of(KvGroup::window) ? 1 : kKvGroups;
  const std::vector<float> angles(options.max_rows * c.head_dim / 2);
  cos_.assign(kinds, angles);
  sin_.assign(kinds, angles);
  for (size_t i = 0; i < kinds; ++i)
    frequencies_.push_back(rope_frequencies(c.rope[i], c.head_dim));
  for (size_t i = 0; i < kinds; ++i) {
    step.rotaries.push_back({.rope = {frequencies_[i].inverse.data(), frequencies_[i].magnitude},
                             .cos = cos_[i].data(),
                             .sin = sin_[i].data()});
  }
  const Format format = options.precision == Precision::exact ? Format::f32 : Format::f16;
  const int64_t page_bytes = kPageTokens * c.kv_heads * traits(format).row_bytes(c.head_dim);
  for (int64_t i = 0; i < c.layers; ++i) {
    const KvGroup group = c.group(i);
    const int64_t bytes = options.pages[static_cast<int>(group)] * page_bytes;
    std::byte* keys = kv_.emplace_back(bytes).data();
    std::byte* values = kv_.emplace_back(bytes).data();
    step.kv.push_back({group, format, keys, values});
  }
}

}  // namespace mxgpt
