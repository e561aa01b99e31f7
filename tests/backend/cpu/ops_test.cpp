// The CPU backend's blocks against double precision, and bit for bit independence of each row from
// the other rows of its batch.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/cpu/op_inputs.h"

namespace mxgpt::cpu {
namespace {

class ExpertFormats : public testing::TestWithParam<quant::Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, ExpertFormats,
                         testing::Values(quant::Format::f32, quant::Format::bf16,
                                         quant::Format::mxfp4, quant::Format::q8_0),
                         [](const auto& info) {
                           return std::string(quant::traits(info.param).name);
                         });

struct ExpertsLayer {
  Weight norm = vector_weight(1, kHidden, 1), router{quant::Format::f32, 1, kExperts, kHidden, 2};
  Weight router_bias = vector_weight(1, kExperts, 3);
  Weight gate, up, down;
  Weight gate_bias = vector_weight(kExperts, kIntermediate, 4),
         up_bias = vector_weight(kExperts, kIntermediate, 5);
  Weight down_bias = vector_weight(kExperts, kHidden, 6);
  explicit ExpertsLayer(quant::Format format)
      : gate(format, kExperts, kIntermediate, kHidden, 7),
        up(format, kExperts, kIntermediate, kHidden, 8),
        down(format, kExperts, kHidden, kIntermediate, 9) {}

  backend::MoeBlock block(float* x = nullptr) const {
    return {.router = {.norm = {norm.tensor},
                       .linear = {router.tensor, router_bias.tensor},
                       .top_k = kTopK},
            .gate = {gate.tensor, gate_bias.tensor},
            .up = {up.tensor, up_bias.tensor},
            .down = {down.tensor, down_bias.tensor},
            .activation = {backend::ActivationKind::clamped_swiglu, 1.702f, 7},
            .x = x};
  }
  void run(CpuBackend& backend, float* x) const { backend.moe_block(block(x)); }
  std::vector<double> expected(const float* x) const {
    return eval::reference::moe_block(block(), {x, kHidden});
  }
};

TEST_P(ExpertFormats, EqualDoubleInExactPrecision) {
  const ExpertsLayer layer(GetParam());
  for (const int64_t rows : {1, 2, 9, 33}) {
    CpuBackend backend(kMaxShapes, backend::Precision::exact);
    const SimpleBatch batch(rows);
    backend.begin_step(batch.batch);
    auto x = random_normals(rows * kHidden, 20);
    const auto before = x;
    layer.run(backend, x.data());
    for (int64_t row = 0; row < rows; ++row) {
      const auto expected = layer.expected(&before[row * kHidden]);
      for (int64_t i = 0; i < kHidden; ++i)
        EXPECT_NEAR(x[row * kHidden + i], expected[i], 2e-5) << rows << " " << row;
    }
  }
}

void expect_near(const ExpertsLayer& layer, CpuBackend& backend) {
  const SimpleBatch batch(33);
  backend.begin_step(batch.batch);
  auto x = random_normals(33 * kHidden, 21);
  const auto before = x;
  layer.run(backend, x.data());
  double error = 0, size = 0;
  for (int64_t row = 0; row < 33; ++row) {
    const auto expected = layer.expected(&before[row * kHidden]);
    for (int64_t i = 0; i < kHidden; ++i) {
      const double change = expected[i] - before[row * kHidden + i];
      error += std::pow(x[row * kHidden + i] - expected[i], 2);
      size += change * change;
    }
  }
  EXPECT_LE(error / size,
            5e-4);  // HACKING.md: of paths that reduce precision
}

TEST_P(ExpertFormats, StayNearInMixedPrecision) {
  CpuBackend backend(kMaxShapes, backend::Precision::mixed);
  expect_near(ExpertsLayer(GetParam()), backend);
}

TEST_P(ExpertFormats, StayNearWithSumsInF16) {
  for (const backend::Precision precision :
       {backend::Precision::exact, backend::Precision::mixed}) {
    CpuBackend backend(kMaxShapes, precision, nullptr, kernels::AccumType::f16);
    expect_near(ExpertsLayer(GetParam()), backend);
  }
}

TEST_P(ExpertFormats, RowsAreIndependentOfTheBatch) {
  const ExpertsLayer layer(GetParam());
  for (const auto& [precision, accumulate] :
       {std::pair{backend::Precision::exact, kernels::AccumType::f32},
        {backend::Precision::mixed, kernels::AccumType::f32},
        {backend::Precision::exact, kernels::AccumType::f16},
        {backend::Precision::mixed, kernels::AccumType::f16}}) {
    CpuBackend backend(kMaxShapes, precision, nullptr, accumulate);
    const SimpleBatch together(29), alone(1);
    const auto before = random_normals(29 * kHidden, 22);
    auto x = before;
    backend.begin_step(together.batch);
    layer.run(backend, x.data());
    for (int64_t row = 0; row < 29; ++row) {
      std::vector<float> one(&before[row * kHidden], &before[(row + 1) * kHidden]);
      backend.begin_step(alone.batch);
      layer.run(backend, one.data());
      EXPECT_EQ(std::memcmp(one.data(), &x[row * kHidden], kHidden * sizeof(float)), 0) << row;
    }
  }
}

TEST(Experts, EqualLogitsChooseTheLowerExpert) {
  ExpertsLayer layer(quant::Format::f32);
  std::fill(layer.router.values.begin(), layer.router.values.end(), 0);
  std::memset(layer.router.bytes.data(), 0, layer.router.bytes.size());
  std::memset(layer.router_bias.bytes.data(), 0, layer.router_bias.bytes.size());
  std::fill(layer.router_bias.values.begin(), layer.router_bias.values.end(), 0);
  CpuBackend backend(kMaxShapes, backend::Precision::exact);
  const SimpleBatch batch(1);
  backend.begin_step(batch.batch);
  auto x = random_normals(kHidden, 23);
  const auto expected = layer.expected(x.data());
  layer.run(backend, x.data());
  for (int64_t i = 0; i < kHidden; ++i) EXPECT_NEAR(x[i], expected[i], 2e-5);
}

/// Norm, gate and post-norm of every kind, several formats of the projections.
struct MlpCase {
  quant::Format format;
  backend::NormKind norm;
  bool gated, post_norm;
  backend::ActivationKind activation;
};

class Mlps : public testing::TestWithParam<MlpCase> {};
INSTANTIATE_TEST_SUITE_P(Kinds, Mlps,
                         testing::Values(MlpCase{quant::Format::bf16, backend::NormKind::rms, true,
                                                 false, backend::ActivationKind::silu},
                                         MlpCase{quant::Format::mxfp4, backend::NormKind::rms, true,
                                                 false, backend::ActivationKind::silu},
                                         MlpCase{quant::Format::mxfp4, backend::NormKind::layer,
                                                 false, false, backend::ActivationKind::gelu_tanh},
                                         MlpCase{quant::Format::q8_0, backend::NormKind::layer,
                                                 false, false, backend::ActivationKind::gelu},
                                         MlpCase{quant::Format::q4_1, backend::NormKind::rms, true,
                                                 true, backend::ActivationKind::gelu_tanh}),
                         [](const auto& info) { return std::to_string(info.index); });

struct MlpLayer {
  MlpCase kind;
  Weight norm = vector_weight(1, kHidden, 61), norm_bias = vector_weight(1, kHidden, 62);
  Weight post = vector_weight(1, kHidden, 63);
  Weight gate, up, down;
  Weight up_bias = vector_weight(1, kIntermediate, 64), down_bias = vector_weight(1, kHidden, 65);
  explicit MlpLayer(const MlpCase& c)
      : kind(c),
        gate(c.format, 1, kIntermediate, kHidden, 66),
        up(c.format, 1, kIntermediate, kHidden, 67),
        down(c.format, 1, kHidden, kIntermediate, 68) {}

  backend::MlpBlock block(float* x = nullptr) const {
    const bool layer_norm = kind.norm == backend::NormKind::layer;
    return {.norm = {.weight = norm.tensor,
                     .bias = layer_norm ? norm_bias.tensor : backend::Tensor{},
                     .kind = kind.norm},
            .gate = {kind.gated ? gate.tensor : backend::Tensor{}, {}},
            .up = {up.tensor, up_bias.tensor},
            .down = {down.tensor, down_bias.tensor},
            .activation = {kind.activation},
            .post_norm = {.weight = kind.post_norm ? post.tensor : backend::Tensor{}},
            .x = x};
  }
  void run(CpuBackend& backend, float* x) const { backend.mlp_block(block(x)); }
  std::vector<double> expected(const float* x) const {
    return eval::reference::mlp_block(block(), {x, kHidden});
  }
};

TEST_P(Mlps, EqualDouble) {
  const MlpLayer layer(GetParam());
  constexpr backend::MaxShapes kDense{
      .rows = 33, .hidden = kHidden, .max_linear_width = kHidden, .intermediate = kIntermediate};
  for (const backend::Precision precision :
       {backend::Precision::exact, backend::Precision::mixed}) {
    CpuBackend backend(kDense, precision);
    for (const int64_t rows : {1, 2, 9, 33}) {
      const SimpleBatch batch(rows);
      backend.begin_step(batch.batch);
      const auto before = random_normals(rows * kHidden, 70);
      auto x = before;
      layer.run(backend, x.data());
      double error = 0, size = 0;
      for (int64_t row = 0; row < rows; ++row) {
        const auto expected = layer.expected(&before[row * kHidden]);
        for (int64_t i = 0; i < kHidden; ++i) {
          const double got = x[row * kHidden + i];
          if (precision == backend::Precision::exact) {
            EXPECT_NEAR(got, expected[i], 2e-5) << rows;
          }
          error += std::pow(got - expected[i], 2);
          size += std::pow(expected[i] - before[row * kHidden + i], 2);
        }
      }
      EXPECT_LE(error / size, 5e-4);  // HACKING.md: of paths that reduce precision
      std::vector<float> last(before.end() - kHidden, before.end());
      const SimpleBatch alone(1);
      backend.begin_step(alone.batch);
      layer.run(backend, last.data());
      EXPECT_EQ(std::memcmp(last.data(), &x[(rows - 1) * kHidden], kHidden * sizeof(float)), 0);
    }
  }
}

TEST(Embed, LooksUpRowsOfEveryFormat) {
  for (int f = 0; f < quant::kFormatCount; ++f) {
    const auto format = static_cast<quant::Format>(f);
    if (!quant::traits(format).quantize) continue;
    const int64_t k = 256;
    const Weight table(format, 1, 10, k, 40);
    CpuBackend backend({.rows = 4, .hidden = k, .max_linear_width = k}, backend::Precision::mixed);
    const SimpleBatch batch(4);
    backend.begin_step(batch.batch);
    std::vector<float> x(4 * k);
    backend.embed({.table = table.tensor, .x = x.data()});
    for (int64_t i = 0; i < 4 * k; ++i)
      EXPECT_EQ(x[i], static_cast<float>(table.at(0, 3 + i / k, i % k)));
  }
}

TEST(Embed, ScalesAndAddsPositions) {
  const Weight table(quant::Format::q8_0, 1, 10, 64, 40),
      positions(quant::Format::f16, 1, 20, 64, 41);
  CpuBackend backend({.rows = 4, .hidden = 64, .max_linear_width = 64}, backend::Precision::mixed);
  const SimpleBatch batch(4, 7);
  backend.begin_step(batch.batch);
  std::vector<float> x(4 * 64);
  backend.embed({.table = table.tensor, .scale = 8, .positions = positions.tensor, .x = x.data()});
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t i = 0; i < 64; ++i) {
      EXPECT_NEAR(x[row * 64 + i], 8 * table.at(0, 3 + row, i) + positions.at(0, 7 + row, i), 1e-6);
    }
  }
}

std::vector<double> expected_logits(const Weight& norm, const Weight& head, const float* x) {
  return eval::reference::linear({head.tensor, {}},
                                 eval::reference::norm({norm.tensor}, {x, kHidden}));
}

TEST(LmHead, OnlyForRequestedRows) {
  const Weight norm = vector_weight(1, kHidden, 50), head(quant::Format::bf16, 1, 77, kHidden, 51);
  CpuBackend backend(kMaxShapes, backend::Precision::exact);
  SimpleBatch batch(9);
  const std::vector<int32_t> wanted{2, 8};
  batch.batch.logit_rows = wanted;
  backend.begin_step(batch.batch);
  const auto x = random_normals(9 * kHidden, 52);
  std::vector<float> logits(2 * 77);
  backend.lm_head(
      {.x = x.data(), .norm = {norm.tensor}, .linear = {head.tensor, {}}, .logits = logits.data()});
  for (int i = 0; i < 2; ++i) {
    const auto expected = expected_logits(norm, head, &x[wanted[i] * kHidden]);
    for (int r = 0; r < 77; ++r) EXPECT_NEAR(logits[i * 77 + r], expected[r], 1e-5);
  }
}

TEST(LmHead, HeadInMxfp4EqualsDouble) {
  const Weight norm = vector_weight(1, kHidden, 53), head(quant::Format::mxfp4, 1, 77, kHidden, 54);
  for (const int64_t rows : {1, 9}) {
    for (const backend::Precision precision :
         {backend::Precision::exact, backend::Precision::mixed}) {
      CpuBackend backend(kMaxShapes, precision);
      SimpleBatch batch(rows);
      std::vector<int32_t> wanted(rows);
      std::iota(wanted.begin(), wanted.end(), 0);
      batch.batch.logit_rows = wanted;
      backend.begin_step(batch.batch);
      const auto x = random_normals(rows * kHidden, 55);
      std::vector<float> logits(rows * 77);
      backend.lm_head({.x = x.data(),
                       .norm = {norm.tensor},
                       .linear = {head.tensor, {}},
                       .logits = logits.data()});
      double error = 0, size = 0;
      for (int64_t row = 0; row < rows; ++row) {
        const auto expected = expected_logits(norm, head, &x[row * kHidden]);
        for (int r = 0; r < 77; ++r) {
          error += std::pow(logits[row * 77 + r] - expected[r], 2);
          size += std::pow(expected[r], 2);
        }
      }
      EXPECT_LE(error / size, precision == backend::Precision::exact ? 1e-11 : 5e-4) << rows;
    }
  }
}

}  // namespace
}  // namespace mxgpt::cpu
