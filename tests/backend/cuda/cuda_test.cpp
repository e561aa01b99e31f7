// The CUDA backend on a GPU: kernels, references, and what must hold of any backend. Where there is
// none every test says that it was skipped; bench/cuda/check.sh runs them on a machine that has
// one.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>

#include "backend/cuda/device.h"
#include "backend/cuda/generic/sampling.h"
#include "engine/sampler.h"
#include "eval/kernel_check.h"
#include "eval/self_check.h"
#include "runtime/cuda_weights.h"
#include "support/agreement.h"

namespace mxgpt::backend {
namespace {

namespace fs = std::filesystem;

const fs::path kNano = fs::path(MXGPT_ROOT) / "models/gpt-oss-nano";
const fs::path kFixtures = MXGPT_FIXTURES;

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::unavailable_reason().empty())
      GTEST_SKIP() << "NOT TESTED: " << cuda::unavailable_reason()
                   << "; with a GPU: bench/cuda/check.sh";
  }
};

const runtime::Model& nano() {
  static const auto model = runtime::Model::open(kNano);
  return *model;
}

engine::ScoringOptions options(Precision precision, int64_t rows = 256) {
  return {.device = Device::cuda, .precision = precision, .max_batched_tokens = rows};
}

TEST_F(Cuda, KernelsAreWithinTheirBounds) {
  for (const eval::KernelCheckResult& r : eval::check_device_kernels()) {
    EXPECT_TRUE(r.passes()) << fmt::format("{} on {}: {} {:.2e}, bound {:.2e}, at {}", r.kernel,
                                           r.target, r.measure, r.error, r.bound, r.worst_shape);
  }
}

void expect_exact(const Agreement& a) {
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.kld, 1e-6);
}

void expect_default(const Agreement& a) {
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

TEST_F(Cuda, GptOss) {
  expect_exact(agreement(kNano, nano(), options(Precision::exact)));
  expect_default(agreement(kNano, nano(), options(Precision::mixed)));
  expect_default(agreement(kNano, nano(), options(Precision::mixed, 1)));
  engine::ScoringOptions f16 = options(Precision::exact);
  f16.accum_type = kernels::AccumType::f16;
  expect_default(agreement(kNano, nano(), f16));
}

TEST_F(Cuda, Gpt2) {
  const auto model = runtime::Model::open(kFixtures / "gpt2-nano");
  expect_exact(agreement(model->path(), *model, options(Precision::exact)));
  expect_default(agreement(model->path(), *model, options(Precision::mixed)));
}

TEST_F(Cuda, EveryArchitecture) {
  for (const fs::directory_entry& entry : fs::directory_iterator(kFixtures / "architectures")) {
    SCOPED_TRACE(entry.path().filename().string());
    const auto model = runtime::Model::open(entry.path());
    for (const int64_t rows : {64, 16, 1})
      expect_exact(agreement(entry.path(), *model, options(Precision::exact, rows)));
  }
}

TEST_F(Cuda, SelfChecks) {
  const auto file = io::SafetensorsFile::open(kNano / "reference-logits.safetensors");
  std::vector<int32_t> text;
  for (int i = 0; std::ssize(text) < eval::kMaxSelfCheckTokens; ++i)
    text = values<int32_t>(file.tensors().at(fmt::format("{}.ids", i)));
  for (const eval::SelfCheckResult& r :
       eval::self_check({nano().architecture(), nano().config(), nano().weights(Device::cuda),
                         kernels::AccumType::f32, std::nullopt, Device::cuda},
                        text)) {
    EXPECT_NE(r.status, eval::SelfCheckResult::Status::fail)
        << r.name << ": " << r.measured << " " << r.measure;
  }
}

TEST_F(Cuda, GreedyTokensMatchTheReference) {
  engine::Engine engine(
      nano(),
      {.context = 4096, .max_sequences = 1, .device = Device::cuda, .precision = Precision::exact});
  EXPECT_EQ(equal_greedy_answers(engine, kNano), 24);
}

TEST_F(Cuda, TwoRunsGiveTheSameBits) {
  std::vector<int32_t> ids(300);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 8000);
  std::vector<float> logits[2];
  for (const int64_t rows : {64, 1}) {
    for (auto& run : logits) {
      engine::ScoringSession session(nano(), options(Precision::mixed, rows));
      const auto last = session.feed(ids);
      run.assign(last.begin(), last.end());
    }
    EXPECT_EQ(logits[0], logits[1]) << rows;
  }
}

TEST_F(Cuda, GraphReplayGivesTheSameBits) {
  std::vector<int32_t> ids(700);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 8000);
  for (const Precision precision : {Precision::mixed, Precision::exact}) {
    for (const size_t before : {2, 31, 32, 200, 511, 600}) {
      // The first step of its shape is taken as it comes, the second recorded, the third repeated;
      // one in between leaves other tokens, positions and keys behind.
      engine::ScoringSession session(nano(), options(precision));
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

/// The answers to prompts of all lengths, each alone or all of them at once.
std::vector<std::vector<int32_t>> answers(int at_once, Precision precision) {
  engine::Engine engine(nano(), {.context = 1024,
                                 .max_sequences = 8,
                                 .device = Device::cuda,
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

TEST_F(Cuda, TokensAreTheSameAloneAndInABatchOfEight) {
  for (const Precision precision : {Precision::mixed, Precision::exact})
    EXPECT_EQ(answers(1, precision), answers(8, precision));
}

TEST_F(Cuda, ChunkingDecodeRowsGivesTheSameBits) {
  // Across a page's end, where a row sees a page that another row of the step is writing.
  std::vector<int32_t> ids(80);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 8000);
  std::vector<float> logits[3];
  for (int i = 0; i < 3; ++i) {
    engine::ScoringSession session(nano(), options(Precision::mixed, std::array{1, 5, 8}[i]));
    const auto last = session.feed(ids);
    logits[i].assign(last.begin(), last.end());
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
}

TEST_F(Cuda, OffloadedExpertsGiveTheSameBits) {
  std::vector<int32_t> ids(300);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 8000);
  std::vector<int32_t> positions(ids.size()), sequences(ids.size(), 0), pages(20);
  std::iota(positions.begin(), positions.end(), 0);
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<float> all[2];
  const auto model = runtime::Model::open(kNano);
  for (const int64_t layers : {0, 2}) {
    const auto runner = model->create_runner({.device = Device::cuda,
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
      Batch batch{.tokens = part(ids),
                  .positions = part(positions),
                  .sequences = part(sequences),
                  .logit_rows = {&last, 1}};
      for (PageTable& table : batch.tables) table = {pages.data(), 20};
      const auto got = runner->step(batch);
      logits.insert(logits.end(), got.begin(), got.end());
    }
  }
  EXPECT_EQ(all[0], all[1]);
}

TEST_F(Cuda, SampledTokensMatchTheHost) {
  std::mt19937 random(11);
  const auto among = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random() % std::size(all)];
  };
  for (const int vocabulary : {1, 5, 97, 512, 8064, 201088}) {
    constexpr int kRows = 64;
    std::vector<float> logits(int64_t{kRows} * vocabulary);
    std::vector<cuda::RowSampling> how;
    std::vector<cuda::LogitEdit> edits;
    std::vector<uint32_t> masks;
    std::vector<int32_t> wanted;
    const int words = (vocabulary + 31) / 32;
    for (int row = 0; row < kRows; ++row) {
      const std::span<float> mine = std::span(logits).subspan(row * vocabulary, vocabulary);
      std::normal_distribution<float> normal(-2, static_cast<float>(among(0.1, 1, 4)));
      const bool coarse = random() % 2;  // some are equal
      for (float& x : mine) x = coarse ? std::round(normal(random) * 32) / 32 : normal(random);
      if (row == 7) mine[vocabulary / 2] = std::nanf("");
      engine::SamplingParams params{.temperature = among(0, 0.3, 1, 1, 2),
                                    .top_k = static_cast<int64_t>(among(0, 0, 1, 40, 5000)),
                                    .top_p = among(0.0, 0.5, 0.95, 1, 1),
                                    .min_p = among(0.0, 0, 0.05),
                                    .repetition_penalty = among(1, 1, 1.3),
                                    .presence_penalty = among(0, 0.5),
                                    .frequency_penalty = among(0, 0.25),
                                    .seed = random()};
      if (row % 3 == 0) params.logit_bias[vocabulary / 3] = 2.5;
      engine::Sampler sampler(params, std::vector<int32_t>{0, vocabulary - 1});
      for (int i = 0; i < 5; ++i) sampler.accept(static_cast<int32_t>(random() % vocabulary));
      how.push_back(sampler.device_sampling(edits));
      std::vector<uint32_t> mask;
      if (row % 4 == 1) {
        how.back().mask = static_cast<int32_t>(std::ssize(masks) / words);
        for (int word = 0; word < words; ++word) mask.push_back(static_cast<uint32_t>(random()));
        mask[0] |= 1;
        masks.insert(masks.end(), mask.begin(), mask.end());
      }
      wanted.push_back(sampler.sample(mine, mask).value_or(-1));
    }
    cuda::Stream stream;
    std::vector<std::unique_ptr<cuda::Memory>> memory;
    const auto to_gpu = [&]<class T>(const std::vector<T>& from) {
      const auto bytes = static_cast<int64_t>(from.size() * sizeof(T));
      auto& made =
          memory.emplace_back(std::make_unique<cuda::Memory>(cuda::Memory::Kind::pinned, bytes));
      std::memcpy(made->data(), from.data(), bytes);
      return reinterpret_cast<T*>(made->data());
    };
    int32_t* const tokens = to_gpu(std::vector<int32_t>(kRows, -2));
    cuda::sample({.logits = to_gpu(logits),
                  .vocabulary = vocabulary,
                  .rows = kRows,
                  .params = to_gpu(how),
                  .edits = to_gpu(edits),
                  .masks = to_gpu(masks),
                  .tokens = tokens},
                 stream.get());
    stream.synchronize();
    EXPECT_EQ(std::vector<int32_t>(tokens, tokens + kRows), wanted) << vocabulary;
  }
}

TEST_F(Cuda, OutOfMemoryReportsThePlan) {
  engine::ScoringOptions tight = options(Precision::mixed);
  tight.vram_budget = 1 << 20;
  try {
    engine::ScoringSession session(nano(), tight);
    FAIL() << "a model fitted into 1 MiB";
  } catch (const runtime::MemoryPlanError& error) {
    EXPECT_EQ(error.budget, tight.vram_budget);
    EXPECT_GT(error.plan.total(), tight.vram_budget);
    EXPECT_THAT(error.what(), testing::HasSubstr("VRAM_OOM"));
  }
}

}  // namespace
}  // namespace mxgpt::backend
