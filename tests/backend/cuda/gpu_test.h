// Fixture and helpers of the tests that need a GPU. Without one they skip and say so.
#pragma once

#include <gmock/gmock.h>

#include "backend/cuda/device.h"
#include "engine/scoring_session.h"
#include "support/nano.h"

namespace mxgpt::cuda {

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!unavailable_reason().empty())
      GTEST_SKIP() << "NOT TESTED: " << unavailable_reason() << "; with a GPU: bench/cuda/check.sh";
  }
};

inline engine::ScoringOptions scoring_options(backend::Precision precision, int64_t rows = 256) {
  return {.device = "cuda", .precision = precision, .max_batched_tokens = rows};
}

/// `count` token ids in a fixed pattern.
inline std::vector<int32_t> token_pattern(size_t count) {
  std::vector<int32_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>(i * 7919 % 8000);
  return ids;
}

}  // namespace mxgpt::cuda
