// An attention to compute, over named edges of pages and windows, and what it is in double.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "backend/cpu/kernels.h"
#include "numerics/reference_ops.h"

namespace mxgpt {

struct AttendCase {
  const char* name;
  int group, head_dim;
  int64_t first, last;
  bool sinks;
};

inline constexpr AttendCase kAttendCases[] = {
    {"first_token", 4, 64, 0, 0, true},
    {"first_token_no_sink", 4, 64, 0, 0, false},
    {"page_but_one", 8, 64, 0, 30, true},
    {"whole_page", 8, 64, 0, 31, true},
    {"page_and_one", 8, 64, 0, 32, true},
    {"window_inside_page", 2, 64, 35, 40, true},
    {"window_over_edge", 2, 64, 23, 150, true},
    {"odd_head", 3, 20, 5, 77, true},
    {"head_of_two", 1, 2, 0, 40, false},
    {"wide_head", 1, 256, 3, 99, true},
    {"far", 1, 64, 0, 1000, true},
};

/// Two KV heads, of which the second is used; pages in reverse order, one of them unused.
class AttendProblem {
 public:
  AttendProblem(Format format, const AttendCase& c)
      : case_(c), format_(format), q_(normal(c.group * c.head_dim, 1)), sinks_(normal(c.group, 3)) {
    const FormatTraits& t = traits(format);
    const int64_t head_bytes = t.row_bytes(c.head_dim), count = c.last / kPageTokens + 1;
    kv_head_bytes_ = head_bytes * kPageTokens;
    for (int64_t i = 0; i < count; ++i) pages_.push_back(static_cast<int32_t>(count - i));
    keys_.resize(2 * kv_head_bytes_ * (count + 1));
    values_.resize(keys_.size());
    key_of_.resize((c.last + 1) * c.head_dim);
    value_of_.resize(key_of_.size());
    for (int64_t at = 0; at <= c.last; ++at) {
      const int64_t to =
          (2 * pages_[at / kPageTokens] + 1) * kv_head_bytes_ + at % kPageTokens * head_bytes;
      const auto store = [&](float size, std::byte* stored, float* kept) {
        t.quantize(normal(c.head_dim, size).data(), c.head_dim, nullptr, stored);
        t.dequantize(stored, c.head_dim, kept);
      };
      store(2, &keys_[to], &key_of_[at * c.head_dim]);
      store(1, &values_[to], &value_of_[at * c.head_dim]);
    }
  }

  cpu::AttendHeads heads(float* out) const {
    return {.q = q_.data(),
            .group = case_.group,
            .head_dim = case_.head_dim,
            .scale = 1 / std::sqrt(static_cast<float>(case_.head_dim)),
            .format = format_,
            .keys = keys_.data() + kv_head_bytes_,
            .values = values_.data() + kv_head_bytes_,
            .page_bytes = 2 * kv_head_bytes_,
            .pages = pages_.data(),
            .first = case_.first,
            .last = case_.last,
            .sinks = case_.sinks ? sinks_.data() : nullptr,
            .out = out};
  }

  /// [group, head_dim]
  std::vector<double> exact() const {
    std::vector<double> all;
    for (int h = 0; h < case_.group; ++h) {
      const std::vector<double> one =
          reference::attention({.q = &q_[h * case_.head_dim],
                                .keys = key_of_.data(),
                                .values = value_of_.data(),
                                .stride = case_.head_dim,
                                .head_dim = case_.head_dim,
                                .scale = 1 / std::sqrt(static_cast<float>(case_.head_dim)),
                                .first = case_.first,
                                .last = case_.last,
                                .sink = case_.sinks ? &sinks_[h] : nullptr});
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

 private:
  std::vector<float> normal(int64_t n, float size) {
    std::normal_distribution<float> distribution(0, size);
    std::vector<float> values(n);
    for (float& v : values) v = distribution(random_);
    return values;
  }

  std::mt19937 random_{7};
  AttendCase case_;
  Format format_;
  std::vector<float> q_, sinks_;
  int64_t kv_head_bytes_;
  std::vector<int32_t> pages_;
  std::vector<std::byte> keys_, values_;
  std::vector<float> key_of_, value_of_;  // [positions][head_dim], as stored
};

}  // namespace mxgpt
