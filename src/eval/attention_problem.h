// Attention test cases at the edges of pages and windows, with double-precision results.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_page.h"
#include "eval/reference_ops.h"

namespace mxgpt::eval {

struct AttentionCase {
  const char* name;
  int group, head_dim;
  int64_t position;  ///< position of the first query
  int rows;
  int64_t window;  ///< 0: none
  bool sinks;
};

inline constexpr AttentionCase kAttentionCases[] = {
    {"first_token", 4, 64, 0, 1, 0, true},
    {"first_token_no_sink", 4, 64, 0, 1, 0, false},
    {"page_minus_one", 8, 64, 30, 1, 0, true},
    {"whole_page", 8, 64, 31, 1, 0, true},
    {"page_plus_one", 8, 64, 32, 1, 0, true},
    {"kv_split_minus_one", 8, 64, 254, 1, 0, true},
    {"whole_kv_split", 8, 64, 255, 1, 0, true},
    {"kv_split_plus_one", 8, 64, 256, 1, 0, false},
    {"window_1", 2, 32, 40, 3, 1, true},
    {"window_inside_page", 2, 64, 40, 1, 6, true},
    {"window_one_page", 4, 64, 60, 8, 32, true},
    {"window_across_pages", 2, 64, 150, 1, 128, true},
    {"window_full", 8, 64, 120, 8, 128, true},
    {"window_across_kv_splits", 8, 64, 300, 8, 128, true},
    {"head_dim_20", 3, 20, 77, 5, 73, true},
    {"head_dim_2", 1, 2, 40, 1, 0, false},
    {"head_dim_80", 1, 80, 90, 9, 0, false},
    {"head_dim_128", 4, 128, 63, 16, 0, true},
    {"head_dim_256", 4, 256, 95, 16, 33, false},
    {"head_dim_256_group_1", 1, 256, 99, 1, 97, true},
    {"prompt", 8, 64, 0, 8, 0, true},
    {"prompt_without_group", 1, 64, 0, 64, 0, false},
    {"prompt_across_pages", 1, 32, 20, 64, 0, true},
    {"group_5", 5, 64, 33, 12, 0, true},
    {"group_64", 64, 64, 70, 1, 0, true},
    {"long_context", 1, 64, 1000, 1, 0, true},
};

/// Inputs and results of one case. The cache has two KV heads, of which the second is used, in
/// reversed pages, one of them unused. Entries outside every window are NaN if the format has one.
class AttentionProblem {
 public:
  AttentionProblem(quant::Format format, const AttentionCase& c)
      : case_(c),
        format_(format),
        last_position_(c.position + c.rows - 1),
        q_(normal(c.rows * c.group * c.head_dim, 1)),
        sinks_(normal(c.group, 3)) {
    const quant::FormatTraits& t = quant::traits(format);
    const int64_t row_bytes = t.row_bytes(c.head_dim),
                  count = last_position_ / backend::kPageTokens + 1;
    kv_head_bytes_ = row_bytes * backend::kPageTokens;
    for (int64_t i = 0; i < count; ++i) pages_.push_back(static_cast<int32_t>(count - i));
    // All bits set: NaN in f32, f16 and bf16, and as the scale of q8_0.
    keys_.assign(2 * kv_head_bytes_ * (count + 1), std::byte{0xff});
    values_ = keys_;
    std::vector<std::byte> row(row_bytes);
    const int64_t first = c.window ? std::max<int64_t>(0, c.position - c.window + 1) : 0;
    for (int64_t at = 0; at <= last_position_; ++at) {
      std::byte* key_page = &keys_[(2 * pages_[at / backend::kPageTokens] + 1) * kv_head_bytes_];
      std::byte* value_page =
          &values_[(2 * pages_[at / backend::kPageTokens] + 1) * kv_head_bytes_];
      const auto quantized = [&](float size, std::vector<float>& unrounded,
                                 std::vector<float>& rounded) {
        const std::vector<float> x = normal(c.head_dim, size);
        unrounded.insert(unrounded.end(), x.begin(), x.end());
        rounded.resize(unrounded.size());
        t.quantize(x.data(), c.head_dim, nullptr, row.data());
        t.dequantize(row.data(), c.head_dim, &rounded[at * c.head_dim]);
      };
      quantized(2, unrounded_keys_, rounded_keys_);
      if (at >= first)
        cpu::store_key(format, c.head_dim, row.data(), at % backend::kPageTokens, key_page);
      quantized(1, unrounded_values_, rounded_values_);
      if (at >= first)
        std::copy(row.begin(), row.end(), value_page + at % backend::kPageTokens * row_bytes);
    }
  }

  /// Output [rows, group, head_dim] of the kernels, KV split by KV split.
  std::vector<float> attend(const cpu::CpuKernels& kernels) const {
    return attend(kernels, 0, case_.rows);
  }
  /// As above, for `rows` rows from `first_row`.
  std::vector<float> attend(const cpu::CpuKernels& kernels, int first_row, int rows) const {
    const AttentionCase& c = case_;
    const int queries = rows * c.group;
    const int64_t position = c.position + first_row, last = position + rows - 1;
    std::vector<float> memory[2], out(int64_t{queries} * c.head_dim);
    for (auto& m : memory) m.resize(cpu::AttentionStates::float_count(queries, c.head_dim));
    const auto merged_state = cpu::AttentionStates::view(memory[0].data(), queries, c.head_dim);
    const auto split_state = cpu::AttentionStates::view(memory[1].data(), queries, c.head_dim);
    for (int64_t split_begin = 0; split_begin <= last; split_begin += cpu::kKvSplitTokens) {
      kernels.attention_tile({.q = &q_[int64_t{first_row} * c.group * c.head_dim],
                              .q_stride = int64_t{c.group} * c.head_dim,
                              .rows = rows,
                              .group = c.group,
                              .head_dim = c.head_dim,
                              .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
                              .format = format_,
                              .keys = keys_.data() + kv_head_bytes_,
                              .values = values_.data() + kv_head_bytes_,
                              .page_bytes = 2 * kv_head_bytes_,
                              .pages = pages_.data(),
                              .position = position,
                              .window = c.window,
                              .kv_begin = split_begin,
                              .kv_end = std::min(split_begin + cpu::kKvSplitTokens, last + 1)},
                             split_begin == 0 ? merged_state : split_state);
      if (split_begin > 0) kernels.merge_states(split_state, queries, merged_state);
    }
    kernels.normalize_states(merged_state, queries, c.group, c.head_dim,
                             c.sinks ? sinks_.data() : nullptr, out.data(),
                             int64_t{c.group} * c.head_dim);
    return out;
  }

  /// Double-precision result from the cached (rounded) keys and values.
  std::vector<double> exact() const { return exact(rounded_keys_, rounded_values_); }
  /// Double-precision result from the keys and values before rounding.
  std::vector<double> exact_unrounded() const { return exact(unrounded_keys_, unrounded_values_); }

 private:
  std::vector<double> exact(const std::vector<float>& keys,
                            const std::vector<float>& values) const {
    const AttentionCase& c = case_;
    std::vector<double> all;
    for (int i = 0; i < c.rows * c.group; ++i) {
      const int64_t position = c.position + i / c.group;
      const std::vector<double> one = reference::attention(
          {.q = &q_[int64_t{i} * c.head_dim],
           .keys = keys.data(),
           .values = values.data(),
           .stride = c.head_dim,
           .head_dim = c.head_dim,
           .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
           .first = c.window ? std::max<int64_t>(0, position - c.window + 1) : 0,
           .last = position,
           .sink = c.sinks ? &sinks_[i % c.group] : nullptr});
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  std::vector<float> normal(int64_t n, float size) {
    std::normal_distribution<float> distribution(0, size);
    std::vector<float> values(n);
    for (float& v : values) v = distribution(random_);
    return values;
  }

  std::mt19937 random_{7};
  AttentionCase case_;
  quant::Format format_;
  int64_t last_position_;
  std::vector<float> q_, sinks_;
  int64_t kv_head_bytes_;
  std::vector<int32_t> pages_;
  std::vector<std::byte> keys_, values_;
  // [positions][head_dim], after and before rounding to the cache format
  std::vector<float> rounded_keys_, rounded_values_, unrounded_keys_, unrounded_values_;
};

}  // namespace mxgpt::eval
