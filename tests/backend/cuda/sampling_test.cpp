// Sampling on the GPU against the engine's sampler.
#include "backend/cuda/generic/sampling.h"

#include <cmath>
#include <cstring>
#include <random>

#include "backend/cuda/gpu_test.h"
#include "engine/sampler.h"

namespace mxgpt::cuda {
namespace {

using GpuSampling = GpuTest;

TEST_F(GpuSampling, SampledTokensMatchTheHost) {
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

}  // namespace
}  // namespace mxgpt::cuda
