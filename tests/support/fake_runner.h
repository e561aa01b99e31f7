// A runner without a model. The logits of a row are a hash of the text before it, read from the
// pages of both KV groups as earlier steps wrote them. Any row that is cached wrongly, lost or
// overwritten changes the output.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <vector>

#include "runtime/runner.h"

namespace mxgpt {

inline uint64_t mix_hash(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

class FakeRunner final : public runtime::Runner {
 public:
  FakeRunner(const runtime::RunnerOptions& options, int64_t vocabulary, int64_t window)
      : options_(options), vocabulary_(vocabulary), window_(window) {
    for (int g = 0; g < backend::kKvGroups; ++g)
      cells_[g].resize(options.kv_pages[g] * backend::kPageTokens);
    logits_.resize(options.max_logit_rows * vocabulary);
  }

  /// Called with each batch before its computation; may throw.
  std::function<void(const backend::Batch&)> before;

  /// Hash of the text up to a row: all of it in the full group, the window in the other.
  static void expected_logits(std::span<const int32_t> text, int64_t window,
                              std::span<float> logits) {
    const auto end = static_cast<int64_t>(text.size());
    uint64_t full = 0, sliding = 0;
    for (int64_t i = 0; i < end; ++i) full = mix_hash(full ^ cell(text[i], i));
    for (int64_t i = std::max<int64_t>(0, end - window); i < end; ++i)
      sliding = mix_hash(sliding ^ cell(text[i], i));
    fill(mix_hash(full + 3 * sliding), logits);
  }

  std::span<const float> step(const backend::Batch& batch) override {
    if (before) before(batch);
    EXPECT_LE(batch.rows(), options_.max_batched_tokens);
    EXPECT_LE(static_cast<int64_t>(batch.logit_rows.size()), options_.max_logit_rows);
    for (int64_t row = 0; row < batch.rows(); ++row) {
      for (int g = 0; g < backend::kKvGroups; ++g) {
        if (options_.kv_pages[g] == 0) continue;
        at(batch, g, row, batch.positions[row]) = cell(batch.tokens[row], batch.positions[row]);
      }
    }
    int64_t at_logits = 0;
    for (const int32_t row : batch.logit_rows) {
      uint64_t hashes[backend::kKvGroups] = {};
      for (int g = 0; g < backend::kKvGroups; ++g) {
        if (options_.kv_pages[g] == 0) continue;
        const int64_t last = batch.positions[row];
        for (int64_t i = g ? std::max<int64_t>(0, last - window_ + 1) : 0; i <= last; ++i)
          hashes[g] = mix_hash(hashes[g] ^ at(batch, g, row, i));
      }
      fill(mix_hash(hashes[0] + 3 * hashes[1]),
           std::span(logits_).subspan(vocabulary_ * at_logits++, vocabulary_));
    }
    return std::span(logits_).first(at_logits * vocabulary_);
  }

 private:
  static uint64_t cell(int32_t token, int64_t position) {
    return mix_hash(static_cast<uint64_t>(token) << 32 | static_cast<uint64_t>(position)) | 1;
  }
  static void fill(uint64_t hash, std::span<float> logits) {
    for (float& logit : logits) {
      hash = mix_hash(hash);
      logit = static_cast<float>(hash >> 40) * 0x1p-22f;  // 0 to 4
    }
  }
  uint64_t& at(const backend::Batch& batch, int group, int64_t row, int64_t position) {
    const int32_t page = batch.tables[group].page(batch.sequences[row], position);
    if (page < 0 || page >= options_.kv_pages[group]) {
      ADD_FAILURE() << "position " << position << " of group " << group << " has no page";
      return cells_[group][0];
    }
    return cells_[group][page * backend::kPageTokens + position % backend::kPageTokens];
  }

  runtime::RunnerOptions options_;
  int64_t vocabulary_, window_;
  std::vector<uint64_t> cells_[backend::kKvGroups];
  std::vector<float> logits_;
};

}  // namespace mxgpt
