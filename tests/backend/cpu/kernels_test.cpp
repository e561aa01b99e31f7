// The CPU kernels of every instruction set against double precision, over named edge shapes.
#include "backend/cpu/kernels.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

#include "eval/attention_problem.h"
#include "kernels/cpu/gemm.h"
#include "support/random_values.h"

namespace mxgpt::cpu {
namespace {

class CpuKernelsTest : public testing::TestWithParam<kernels::Isa> {
 protected:
  void SetUp() override {
    if (!kernels::isa_supported(GetParam()))
      GTEST_SKIP() << "this processor has no " << kernels::isa_name(GetParam());
  }
  const CpuKernels& kernels() const { return *cpu_kernels(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Isas, CpuKernelsTest,
                         testing::Values(kernels::Isa::scalar, kernels::Isa::avx2,
                                         kernels::Isa::avx512),
                         [](const auto& info) { return kernels::isa_name(info.param); });

TEST_P(CpuKernelsTest, QuantizeQ16RoundsToNearest) {
  for (const int64_t k : {32, 288, 2880}) {
    const auto x = random_normals(k, 1);
    std::vector<int16_t> q(k);
    std::vector<float> scale(k / 32), sum(k / 16);
    std::vector<int32_t> total(k / 16);
    kernels().quantize_int16(x.data(), k, q.data(), scale.data(), sum.data(), total.data(),
                             nullptr);
    for (int64_t i = 0; i < k; ++i) {
      // Half a step, and the rounding of x / scale in f32.
      const int value = q[i / 32 * 32 + kernels::interleaved_index(static_cast<int>(i % 32))];
      const double step = scale[i / 32], error = std::abs(x[i] - step * value);
      EXPECT_LE(error, step * 0.5 + std::abs(x[i]) * 0x1p-22) << i;
      EXPECT_LE(std::abs(value), kernels::kMaxInt16Activation);
    }
    for (int64_t h = 0; h < k / 16; ++h) {
      int expected = 0;
      for (int64_t i = h * 16; i < h * 16 + 16; ++i)
        expected += q[i / 32 * 32 + kernels::interleaved_index(static_cast<int>(i % 32))];
      EXPECT_EQ(total[h], expected);
      EXPECT_EQ(sum[h], scale[h / 2] * static_cast<float>(expected));
    }
  }
}

/// ByteGroup's promises, and a step that two quads have no say in; the scalar kernel gives the
/// same.
TEST_P(CpuKernelsTest, QuantizeQ16InBytes) {
  int doubled_groups = 0, checked_groups = 0;
  for (const int outliers : {0, 1, 2, 3}) {
    const int64_t k = 2880;
    auto x = random_normals(k, 7);
    for (int64_t g = 0; g < k / 32; ++g) {
      // Some groups of one magnitude, the most that there is to add up.
      for (int i = 0; g % 5 == 0 && i < 32; ++i) x[g * 32 + i] = x[g * 32 + i] < 0 ? -1 : 1;
      for (int i = 0; i < outliers; ++i) x[g * 32 + (g * 7 + i * 8) % 32] = g % 2 ? 100.0f : 1e6f;
    }
    struct Out {
      std::vector<int16_t> q = std::vector<int16_t>(2880);
      std::vector<float> scale = std::vector<float>(90), sum = std::vector<float>(180);
      std::vector<int32_t> total = std::vector<int32_t>(180);
      std::vector<kernels::OutlierSplitGroup> bytes = std::vector<kernels::OutlierSplitGroup>(90);
    } out, scalar;
    for (const auto& [kernel, to] :
         {std::pair{&kernels(), &out}, std::pair{cpu_kernels(kernels::Isa::scalar), &scalar}}) {
      kernel->quantize_int16(x.data(), k, to->q.data(), to->scale.data(), to->sum.data(),
                             to->total.data(), to->bytes.data());
    }
    EXPECT_EQ(out.q, scalar.q);
    EXPECT_EQ(out.scale, scalar.scale);
    EXPECT_EQ(out.sum, scalar.sum);
    for (int64_t g = 0; g < k / 32; ++g) {
      const kernels::OutlierSplitGroup& group = out.bytes[g];
      int low_sum[2] = {}, total = 0;
      std::vector<float> quads(8, 0.0f);
      for (int i = 0; i < 32; ++i) {
        int value = group.low[i];
        for (int p = 0; p < kernels::kOutlierDwords; ++p)
          value += group.outlier_offset[p] == i / 4 * 4 ? 256 * group.outlier_high[p][i % 4] : 0;
        ASSERT_EQ(value, out.q[g * 32 + kernels::interleaved_index(i)]) << g << " " << i;
        EXPECT_LE(std::abs(value), kernels::kMaxInt16Activation);
        low_sum[i / 2 % 2] += std::abs(int{group.low[i]});
        total += value;
        const float of_x = x[g * 32 + i];
        quads[i / 4] = std::max(quads[i / 4], std::abs(of_x));
        EXPECT_LE(std::abs(of_x - double{out.scale[g]} * value),
                  out.scale[g] * 0.5 + std::abs(of_x) * 0x1p-22);
      }
      EXPECT_LE(std::max(low_sum[0], low_sum[1]), kernels::kMaxLowSum);
      EXPECT_EQ(out.total[2 * g] + out.total[2 * g + 1], total);
      for (const int bias : {8, 12, 16}) EXPECT_EQ(group.bias_product(bias), bias * total);
      EXPECT_EQ(group.scale, out.scale[g]);
      EXPECT_EQ(group.sum, out.sum[2 * g] + out.sum[2 * g + 1]);
      std::sort(quads.rbegin(), quads.rend());
      const float step = std::max(quads[2] / 127, quads[0] / kernels::kMaxInt16Activation);
      int would_be[2] = {};  // with that step
      for (int i = 0; i < 32; ++i) {
        const auto value = static_cast<int>(std::lrint(x[g * 32 + i] / step));
        would_be[i / 2 % 2] += std::abs(int{static_cast<int8_t>(value)});
      }
      const bool doubled = std::max(would_be[0], would_be[1]) > kernels::kMaxLowSum;
      EXPECT_NEAR(out.scale[g], doubled ? 2 * step : step, step * 1e-4f) << g;
      doubled_groups += doubled;
      ++checked_groups;
    }
  }
  // Both cases must occur, or the expectation above tests only one of them.
  EXPECT_GT(doubled_groups, 0);
  EXPECT_LT(doubled_groups, checked_groups);
}

TEST_P(CpuKernelsTest, QuantizeQ16KeepsZerosAndDoesNotHideNan) {
  std::vector<float> x(64, 0.0f);
  std::vector<int16_t> q(64);
  float scale[2], sum[4];
  int32_t total[4];
  kernels().quantize_int16(x.data(), 64, q.data(), scale, sum, total, nullptr);
  EXPECT_EQ(scale[0], 0);
  EXPECT_EQ(q[5], 0);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const int place : {0, 7, 31}) {
      auto damaged = x;
      damaged[place] = bad;
      kernels().quantize_int16(damaged.data(), 64, q.data(), scale, sum, total, nullptr);
      EXPECT_TRUE(std::isnan(scale[0]));
      EXPECT_EQ(scale[1], 0);
    }
  }
}

backend::Tensor vector_of(const std::vector<float>& values) {
  return {quant::Format::f32, std::as_bytes(std::span(values)).data(), 1, 1,
          static_cast<int64_t>(values.size())};
}

TEST_P(CpuKernelsTest, RmsNorm) {
  for (const int64_t n : {1, 7, 255, 256, 257, 288, 2880}) {
    for (const float magnitude : {1e-12f, 1.0f, 1e12f}) {
      const auto x = random_normals(n, 2, magnitude), weight = random_normals(n, 3);
      const backend::Norm norm{.weight = vector_of(weight)};
      std::vector<float> out(n);
      kernels().norm(norm, x.data(), n, out.data());
      const auto expected = eval::reference::norm(norm, x);
      for (int64_t i = 0; i < n; ++i)
        EXPECT_NEAR(out[i], expected[i], 1e-6 * std::abs(expected[i])) << n << " " << magnitude;
    }
  }
}

TEST_P(CpuKernelsTest, LayerNorm) {
  for (const int64_t n : {1, 7, 255, 256, 257, 288, 2880}) {
    for (const float magnitude : {1e-12f, 1.0f, 1e6f}) {
      for (const float mean : {0.0f, -3.0f}) {  // in standard deviations
        auto x = random_normals(n, 2, magnitude);
        for (float& v : x) v += mean * magnitude;
        const auto weight = random_normals(n, 3), bias = random_normals(n, 4);
        std::vector<float> out(n);
        kernels().norm({.weight = vector_of(weight),
                        .bias = vector_of(bias),
                        .eps = 1e-5f,
                        .kind = backend::NormKind::layer},
                       x.data(), n, out.data());
        const auto count = static_cast<double>(n);
        double total = 0, squares = 0;
        for (float v : x) total += v;
        for (float v : x) squares += std::pow(v - total / count, 2);
        const double scale = 1 / std::sqrt(squares / count + 1e-5f);
        for (int64_t i = 0; i < n; ++i) {
          // The mean is rounded to f32: an ulp of it, seen through the scale.
          const double expected = (x[i] - total / count) * scale * weight[i] + bias[i];
          const double ulp = std::abs(total / count) * 0x1p-23 * scale;
          EXPECT_NEAR(
              out[i], expected,
              (ulp + 1e-6 * (std::abs((x[i] - total / count) * scale))) * std::abs(weight[i]) +
                  1e-6 * std::abs(bias[i]))
              << n << " " << magnitude << " " << mean;
        }
      }
    }
  }
}

TEST_P(CpuKernelsTest, ApplyRopeRotatesPairs) {
  for (const backend::RopeStyle pairs :
       {backend::RopeStyle::neox, backend::RopeStyle::interleaved}) {
    for (const int64_t d : {2, 6, 64, 80, 128}) {
      auto head = random_normals(d, 4);
      const auto before = head;
      std::vector<float> cos(d / 2), sin(d / 2);
      for (int64_t i = 0; i < d / 2; ++i) {
        cos[i] = std::cos(0.3f * static_cast<float>(i));
        sin[i] = std::sin(0.3f * static_cast<float>(i));
      }
      kernels().apply_rope(pairs, head.data(), cos.data(), sin.data(), d);
      const auto expected = eval::reference::rotate(pairs, before, cos.data(), sin.data());
      for (int64_t i = 0; i < d; ++i) EXPECT_NEAR(head[i], expected[i], 1e-6);
    }
  }
}

TEST_P(CpuKernelsTest, Activations) {
  for (const auto kind : {backend::ActivationKind::silu, backend::ActivationKind::gelu,
                          backend::ActivationKind::gelu_tanh}) {
    for (const int64_t n : {1, 5, 8, 9, 288, 2880}) {
      for (const bool gated : {false, true}) {
        auto x = random_normals(n, 5, 4);
        x[0] = 100;
        if (n > 5) x[5] = -100, x[4] = 0;
        const auto up = random_normals(n, 6, 4);
        auto out = x;
        kernels().activate({kind}, out.data(), gated ? up.data() : nullptr, n);
        for (int64_t i = 0; i < n; ++i) {
          const double factor = gated ? up[i] : 1;
          // For large negative x, 1 + erf and the exponential lose relative accuracy in f32; the
          // error stays small compared with |x|.
          EXPECT_NEAR(out[i], eval::reference::activate({kind}, x[i], factor),
                      (1e-6 * std::abs(x[i]) + 1e-12) * std::abs(factor))
              << static_cast<int>(kind) << " " << x[i];
        }
      }
    }
  }
}

TEST_P(CpuKernelsTest, ClampedSwiGlu) {
  for (const int64_t n : {1, 5, 8, 9, 288, 2880}) {
    auto gate = random_normals(n, 5, 6), up = random_normals(n, 6, 6);
    gate[0] = 100;  // above the limit
    up[0] = -100;
    if (n > 5) gate[5] = -60, up[5] = 7.5f;  // the sigmoid vanishes; up above the limit
    const auto before = gate;
    kernels().activate({backend::ActivationKind::clamped_swiglu, 1.702f, 7.0f}, gate.data(),
                       up.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const double g = std::min(before[i], 7.0f);
      const double expected = eval::reference::activate(
          {backend::ActivationKind::clamped_swiglu, 1.702f, 7.0f}, before[i], up[i]);
      // Rounding the exponent αg to f32 alone moves the result by |αg| ulps; e^88 is the largest
      // power taken.
      const double relative = 5e-7 + std::abs(1.702 * g) * 0x1p-23;
      EXPECT_NEAR(gate[i], expected, std::abs(expected) * relative + 1e-35)
          << before[i] << " " << up[i];
    }
  }
}

class AttendTest
    : public testing::TestWithParam<std::tuple<kernels::Isa, quant::Format, eval::AttentionCase>> {
};

INSTANTIATE_TEST_SUITE_P(Shapes, AttendTest,
                         testing::Combine(testing::Values(kernels::Isa::scalar, kernels::Isa::avx2,
                                                          kernels::Isa::avx512),
                                          testing::Values(quant::Format::f32, quant::Format::f16,
                                                          quant::Format::bf16, quant::Format::q8_0),
                                          testing::ValuesIn(eval::kAttentionCases)),
                         [](const auto& info) {
                           return std::string(kernels::isa_name(std::get<0>(info.param))) + "_" +
                                  std::string(quant::traits(std::get<1>(info.param)).name) + "_" +
                                  std::get<2>(info.param).name;
                         });

TEST_P(AttendTest, EqualsDenseSoftmaxInDouble) {
  const auto& [isa_wanted, format, c] = GetParam();
  if (!kernels::isa_supported(isa_wanted))
    GTEST_SKIP() << "this processor has no " << kernels::isa_name(isa_wanted);
  if (c.head_dim % quant::traits(format).block_elements)
    GTEST_SKIP() << "heads are not whole blocks";
  const eval::AttentionProblem problem(format, c);
  const std::vector<double> expected = problem.exact();
  const std::vector<float> out = problem.attend(*cpu_kernels(isa_wanted));
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], 3e-6) << i;
}

TEST_P(AttendTest, SingleRowGivesTheSameBits) {
  const auto& [isa_wanted, format, c] = GetParam();
  if (!kernels::isa_supported(isa_wanted))
    GTEST_SKIP() << "this processor has no " << kernels::isa_name(isa_wanted);
  if (c.head_dim % quant::traits(format).block_elements)
    GTEST_SKIP() << "heads are not whole blocks";
  const eval::AttentionProblem problem(format, c);
  const CpuKernels& kernels = *cpu_kernels(isa_wanted);
  const std::vector<float> together = problem.attend(kernels);
  for (int row = 0; row < c.rows; ++row) {
    const std::vector<float> alone = problem.attend(kernels, row, 1);
    EXPECT_EQ(
        std::memcmp(alone.data(), &together[row * alone.size()], alone.size() * sizeof(float)), 0)
        << row;
  }
}

TEST(KvPage, StoredKeysRoundTrip) {
  for (const quant::Format format :
       {quant::Format::f32, quant::Format::f16, quant::Format::bf16, quant::Format::q8_0}) {
    for (const int64_t head_dim : {32, 64, 96}) {
      const int64_t row_bytes = quant::traits(format).row_bytes(head_dim);
      std::vector<std::vector<std::byte>> rows;
      std::vector<std::byte> page(backend::kPageTokens * row_bytes);
      for (int slot = 0; slot < backend::kPageTokens; ++slot) {
        auto& row = rows.emplace_back(row_bytes);
        for (int64_t i = 0; i < row_bytes; ++i) row[i] = static_cast<std::byte>(i * 7 + slot * 31);
        store_key(format, head_dim, row.data(), slot, page.data());
      }
      for (int slot = 0; slot < backend::kPageTokens; ++slot) {
        std::vector<std::byte> back(row_bytes);
        load_key(format, head_dim, page.data(), slot, back.data());
        EXPECT_EQ(back, rows[slot]);
      }
    }
  }
}

}  // namespace
}  // namespace mxgpt::cpu
