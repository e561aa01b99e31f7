#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>

#include "engine/scoring_session.h"
#include "io/gguf_writer.h"

namespace mxgpt::model {
namespace {

TEST(ToyArchitecture, LoadsAndRuns) {
  constexpr int64_t kVocabulary = 5, kHidden = 3;
  std::vector<float> embedding(kVocabulary * kHidden), norm{1, 2, 0.5f},
      head(kVocabulary * kHidden);
  for (size_t i = 0; i < embedding.size(); ++i) {
    embedding[i] = std::sin(static_cast<float>(i));
    head[i] = std::cos(static_cast<float>(3 * i));
  }
  const std::filesystem::path path =
      testing::TempDir() + fmt::format("mxgpt-toy-{}.gguf", ::getpid());
  io::GgufWriter writer(path);
  writer.add<std::string_view>("general.architecture", "toy");
  writer.add<uint32_t>("toy.vocab_size", kVocabulary);
  writer.add<uint32_t>("toy.embedding_length", kHidden);
  const int64_t matrix[] = {kVocabulary, kHidden}, row[] = {kHidden};
  writer.add_tensor("token_embd.weight", quant::Format::f32, matrix);
  writer.add_tensor("output_norm.weight", quant::Format::f32, row);
  writer.add_tensor("output.weight", quant::Format::f32, matrix);
  for (const auto* values : {&embedding, &norm, &head})
    writer.write(std::as_bytes(std::span(*values)));
  writer.finish();

  const auto model = runtime::Model::open(path);
  EXPECT_EQ(model->config().architecture, "toy");
  engine::ScoringSession session(*model, {.precision = backend::Precision::exact});
  const int32_t tokens[] = {4, 2};
  const auto logits = session.feed(tokens);
  ASSERT_EQ(logits.size(), kVocabulary);
  double squares = 0;
  for (int64_t i = 0; i < kHidden; ++i) squares += std::pow(embedding[2 * kHidden + i], 2);
  for (int64_t v = 0; v < kVocabulary; ++v) {
    double expected = 0;
    for (int64_t i = 0; i < kHidden; ++i) {
      expected += embedding[2 * kHidden + i] / std::sqrt(squares / kHidden + 1e-5) * norm[i] *
                  head[v * kHidden + i];
    }
    EXPECT_NEAR(logits[v], expected, 1e-6);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace mxgpt::model
