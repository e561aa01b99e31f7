// Bits that must not depend on the batch, the chunking, graph replay or where experts lie.
#include <algorithm>
#include <array>
#include <numeric>

#include "backend/cuda/gpu_test.h"
#include "engine/engine.h"

namespace mxgpt::cuda {
namespace {

using GpuDeterminism = GpuTest;

TEST_F(GpuDeterminism, TwoRunsGiveTheSameBits) {
  const std::vector<int32_t> ids = token_pattern(300);
  std::vector<float> logits[2];
  for (const int64_t rows : {64, 1}) {
    for (auto& run : logits) {
      engine::ScoringSession session(nano(), scoring_options(backend::Precision::mixed, rows));
      const auto last = session.feed(ids);
      run.assign(last.begin(), last.end());
    }
    EXPECT_EQ(logits[0], logits[1]) << rows;
  }
}

TEST_F(GpuDeterminism, GraphReplayGivesTheSameBits) {
  const std::vector<int32_t> ids = token_pattern(700);
  for (const backend::Precision precision :
       {backend::Precision::mixed, backend::Precision::exact}) {
    for (const size_t before : {2, 31, 32, 200, 511, 600}) {
      // The first step of its shape is taken as it comes, the second recorded, the third repeated;
      // one in between leaves other tokens, positions and keys behind.
      engine::ScoringSession session(nano(), scoring_options(precision));
      const std::span<const int32_t> text = std::span(ids).first(before + 1);
      std::vector<float> first;
      for (int repetition = 0; repetition < 3; ++repetition) {
        if (repetition) session.feed({&ids[before + 1], 1});
        const auto rest = text.subspan(session.rewind_to_common_prefix(text));
        if (repetition) {
          ASSERT_EQ(rest.size(), 1u);
        } else {
          session.feed(rest.first(before));
        }
        const auto last = session.feed(rest.last(1));
        if (repetition == 0) first.assign(last.begin(), last.end());
        EXPECT_TRUE(std::equal(first.begin(), first.end(), last.begin(), last.end()))
            << before << ", " << repetition;
      }
    }
  }
}

/// The tokens of eight requests, `at_once` of them running together.
std::vector<std::vector<int32_t>> answers(int at_once, backend::Precision precision) {
  engine::Engine engine(nano(), {.context = 1024,
                                 .max_sequences = 8,
                                 .device = "cuda",
                                 .speculate = false,
                                 .precision = precision});
  std::vector<engine::TokenStream> streams;
  std::vector<std::vector<int32_t>> all;
  const auto hear = [&] {
    for (engine::TokenStream& stream : streams) {
      std::vector<int32_t>& tokens = all.emplace_back();
      for (bool last = false; !last;) {
        for (const engine::StreamEvent& event : stream.wait()) {
          if (const auto* token = std::get_if<engine::ChoiceToken>(&event))
            tokens.push_back(token->token);
          if (const auto* end = std::get_if<engine::ChoiceEnd>(&event)) last = end->last;
        }
      }
    }
    streams.clear();
  };
  for (int i = 0; i < 8; ++i) {
    // A prompt of one token is a step of decode: whatever else is in it, at most eight rows.
    streams.push_back(std::get<engine::TokenStream>(engine.submit(
        {.prompt = {1000 + 13 * i}, .max_tokens = 200, .sampling = {.seed = 7u + i}})));
    if (std::ssize(streams) == at_once) hear();
  }
  return all;
}

TEST_F(GpuDeterminism, TokensAreTheSameAloneAndInABatchOfEight) {
  for (const backend::Precision precision : {backend::Precision::mixed, backend::Precision::exact})
    EXPECT_EQ(answers(1, precision), answers(8, precision));
}

TEST_F(GpuDeterminism, ChunkingDecodeRowsGivesTheSameBits) {
  // Across a page's end, where a row sees a page that another row of the step is writing.
  const std::vector<int32_t> ids = token_pattern(80);
  std::vector<float> logits[3];
  for (int i = 0; i < 3; ++i) {
    engine::ScoringSession session(
        nano(), scoring_options(backend::Precision::mixed, std::array{1, 5, 8}[i]));
    const auto last = session.feed(ids);
    logits[i].assign(last.begin(), last.end());
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
}

TEST_F(GpuDeterminism, OffloadedExpertsGiveTheSameBits) {
  const std::vector<int32_t> ids = token_pattern(300);
  std::vector<int32_t> positions(ids.size()), sequences(ids.size(), 0), pages(20);
  std::iota(positions.begin(), positions.end(), 0);
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<float> all[2];
  const auto model = runtime::Model::open(kNano);
  for (const int64_t layers : {0, 2}) {
    const auto runner = model->create_runner({.device = "cuda",
                                              .max_batched_tokens = 512,
                                              .kv_pages = {20, 20},
                                              .cpu_offload_layers = layers});
    std::vector<float>& logits = all[layers > 0];
    // As a prompt, and a token more.
    for (const auto& [from, to] : {std::pair{0, 299}, std::pair{299, 300}}) {
      const int32_t last = to - from - 1;
      const auto part = [&](const std::vector<int32_t>& v) {
        return std::span(v).subspan(from, to - from);
      };
      backend::Batch batch{.tokens = part(ids),
                           .positions = part(positions),
                           .sequences = part(sequences),
                           .logit_rows = {&last, 1}};
      for (backend::PageTable& table : batch.tables) table = {pages.data(), 20};
      const auto got = runner->step(batch);
      logits.insert(logits.end(), got.begin(), got.end());
    }
  }
  EXPECT_EQ(all[0], all[1]);
}

}  // namespace
}  // namespace mxgpt::cuda
