// The CPU kernels of every instruction set against double precision, over named edge shapes.
#include "backend/cpu/kernels.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

#include "backend/support.h"

namespace mxgpt::cpu {
namespace {

class CpuKernelsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam()))
      GTEST_SKIP() << "this processor has no " << isa_name(GetParam());
  }
  const CpuKernels& kernels() const { return *cpu_kernels(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Isas, CpuKernelsTest, testing::Values(Isa::scalar, Isa::avx2),
                         [](const auto& info) { return isa_name(info.param); });

TEST_P(CpuKernelsTest, QuantizeQ8RoundsToNearest) {
  for (const int64_t k : {32, 288, 2880}) {
    const auto x = randoms(k, 1);
    std::vector<int8_t> q(k);
    std::vector<float> scale(k / 32), sum(k / 16);
    kernels().quantize_q8(x.data(), k, q.data(), scale.data(), sum.data());
    for (int64_t i = 0; i < k; ++i) {
      // Half a step, and the rounding of x / scale in f32.
      EXPECT_LE(std::abs(x[i] - scale[i / 32] * q[i]), scale[i / 32] * 0.5001f) << i;
      EXPECT_GE(q[i], -127);
    }
    for (int64_t h = 0; h < k / 16; ++h) {
      int total = 0;
      for (int64_t i = h * 16; i < h * 16 + 16; ++i) total += q[i];
      EXPECT_EQ(sum[h], scale[h / 2] * static_cast<float>(total));
    }
  }
}

TEST_P(CpuKernelsTest, QuantizeQ8KeepsZerosAndDoesNotHideNan) {
  std::vector<float> x(64, 0.0f);
  std::vector<int8_t> q(64);
  float scale[2], sum[4];
  kernels().quantize_q8(x.data(), 64, q.data(), scale, sum);
  EXPECT_EQ(scale[0], 0);
  EXPECT_EQ(q[5], 0);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const int place : {0, 7, 31}) {
      auto damaged = x;
      damaged[place] = bad;
      kernels().quantize_q8(damaged.data(), 64, q.data(), scale, sum);
      EXPECT_TRUE(std::isnan(scale[0]));
      EXPECT_EQ(scale[1], 0);
    }
  }
}

Tensor vector_of(const std::vector<float>& values) {
  return {Format::f32, std::as_bytes(std::span(values)).data(), 1, 1,
          static_cast<int64_t>(values.size())};
}

TEST_P(CpuKernelsTest, RmsNorm) {
  for (const int64_t n : {1, 7, 255, 256, 257, 288, 2880}) {
    for (const float magnitude : {1e-12f, 1.0f, 1e12f}) {
      const auto x = randoms(n, 2, magnitude), weight = randoms(n, 3);
      std::vector<float> out(n);
      kernels().norm({.weight = vector_of(weight)}, x.data(), n, out.data());
      double squares = 0;
      for (float v : x) squares += double{v} * v;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5f);
      for (int64_t i = 0; i < n; ++i) {
        const double expected = x[i] * scale * weight[i];
        EXPECT_NEAR(out[i], expected, 1e-6 * std::abs(expected)) << n << " " << magnitude;
      }
    }
  }
}

TEST_P(CpuKernelsTest, LayerNorm) {
  for (const int64_t n : {1, 7, 255, 256, 257, 288, 2880}) {
    for (const float magnitude : {1e-12f, 1.0f, 1e6f}) {
      for (const float mean : {0.0f, -3.0f}) {  // in standard deviations
        auto x = randoms(n, 2, magnitude);
        for (float& v : x) v += mean * magnitude;
        const auto weight = randoms(n, 3), bias = randoms(n, 4);
        std::vector<float> out(n);
        kernels().norm({.weight = vector_of(weight),
                        .bias = vector_of(bias),
                        .eps = 1e-5f,
                        .kind = NormKind::layer},
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

TEST_P(CpuKernelsTest, RotateTurnsPairs) {
  for (const RopePairs pairs : {RopePairs::halves, RopePairs::neighbours}) {
    for (const int64_t d : {2, 6, 64, 80, 128}) {
      auto head = randoms(d, 4);
      const auto before = head;
      std::vector<float> cos(d / 2), sin(d / 2);
      for (int64_t i = 0; i < d / 2; ++i) {
        cos[i] = std::cos(0.3f * static_cast<float>(i));
        sin[i] = std::sin(0.3f * static_cast<float>(i));
      }
      kernels().rotate(pairs, head.data(), cos.data(), sin.data(), d);
      for (int64_t i = 0; i < d / 2; ++i) {
        const int64_t first = pairs == RopePairs::halves ? i : 2 * i;
        const int64_t second = pairs == RopePairs::halves ? i + d / 2 : 2 * i + 1;
        const double a = before[first], b = before[second];
        EXPECT_NEAR(head[first], a * cos[i] - b * sin[i], 1e-6);
        EXPECT_NEAR(head[second], b * cos[i] + a * sin[i], 1e-6);
      }
    }
  }
}

TEST_P(CpuKernelsTest, Activations) {
  const auto expected = [](ActivationKind kind, double x) {
    switch (kind) {
      case ActivationKind::silu:
        return x / (1 + std::exp(-x));
      case ActivationKind::gelu:
        return x / 2 * std::erfc(-x / std::sqrt(2.0));
      default:
        return x / 2 *
               (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    }
  };
  for (const auto kind : {ActivationKind::silu, ActivationKind::gelu, ActivationKind::gelu_tanh}) {
    for (const int64_t n : {1, 5, 8, 9, 288, 2880}) {
      for (const bool gated : {false, true}) {
        auto x = randoms(n, 5, 4);
        x[0] = 100;
        if (n > 5) x[5] = -100, x[4] = 0;
        const auto up = randoms(n, 6, 4);
        auto out = x;
        kernels().activate({kind}, out.data(), gated ? up.data() : nullptr, n);
        for (int64_t i = 0; i < n; ++i) {
          const double factor = gated ? up[i] : 1;
          // Where the curve goes to zero on the left, the f32 of 1 + erf and of the exponent lose
          // relative accuracy; the error stays small beside |x|.
          EXPECT_NEAR(out[i], expected(kind, x[i]) * factor,
                      (1e-6 * std::abs(x[i]) + 1e-12) * std::abs(factor))
              << static_cast<int>(kind) << " " << x[i];
        }
      }
    }
  }
}

TEST_P(CpuKernelsTest, ClampedSwiGlu) {
  for (const int64_t n : {1, 5, 8, 9, 288, 2880}) {
    auto gate = randoms(n, 5, 6), up = randoms(n, 6, 6);
    gate[0] = 100;  // above the limit
    up[0] = -100;
    if (n > 5) gate[5] = -60, up[5] = 7.5f;  // the sigmoid vanishes; up above the limit
    const auto before = gate;
    kernels().activate({ActivationKind::clamped_swiglu, 1.702f, 7.0f}, gate.data(), up.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const double g = std::min(before[i], 7.0f), u = std::clamp(up[i], -7.0f, 7.0f);
      const double expected = (u + 1) * g / (1 + std::exp(-1.702f * g));
      // Rounding the exponent αg to f32 alone moves the result by |αg| ulps; e^88 is the largest
      // power taken.
      const double relative = 5e-7 + std::abs(1.702 * g) * 0x1p-23;
      EXPECT_NEAR(gate[i], expected, std::abs(expected) * relative + 1e-35)
          << before[i] << " " << up[i];
    }
  }
}

struct AttendCase {
  const char* name;
  int group, head_dim;
  int64_t first, last;
  bool sinks;
};

class AttendTest : public testing::TestWithParam<std::tuple<Isa, Format, AttendCase>> {};

constexpr AttendCase kAttendCases[] = {
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

INSTANTIATE_TEST_SUITE_P(Shapes, AttendTest,
                         testing::Combine(testing::Values(Isa::scalar, Isa::avx2),
                                          testing::Values(Format::f32, Format::f16, Format::bf16),
                                          testing::ValuesIn(kAttendCases)),
                         [](const auto& info) {
                           return std::string(isa_name(std::get<0>(info.param))) + "_" +
                                  std::string(traits(std::get<1>(info.param)).name) + "_" +
                                  std::get<2>(info.param).name;
                         });

TEST_P(AttendTest, EqualsDenseSoftmaxInDouble) {
  const auto& [isa_wanted, format, c] = GetParam();
  if (!isa_supported(isa_wanted)) GTEST_SKIP() << "this processor has no " << isa_name(isa_wanted);
  // Two KV heads, of which the second is used; pages in reverse order, one of them unused.
  const int64_t head_bytes = traits(format).row_bytes(c.head_dim),
                kv_head_bytes = head_bytes * kPageTokens;
  const int64_t count = c.last / kPageTokens + 1;
  std::vector<int32_t> pages(count);
  for (int64_t i = 0; i < count; ++i) pages[i] = static_cast<int32_t>(count - i);
  std::vector<std::byte> keys(2 * kv_head_bytes * (count + 1)), values(keys.size());
  std::vector<float> key_of((c.last + 1) * c.head_dim), value_of(key_of.size());
  for (int64_t at = 0; at <= c.last; ++at) {
    const auto key = randoms(c.head_dim, 100 + static_cast<uint32_t>(at), 2),
               value = randoms(c.head_dim, 5000 + static_cast<uint32_t>(at));
    const int64_t to =
        (2 * pages[at / kPageTokens] + 1) * kv_head_bytes + at % kPageTokens * head_bytes;
    traits(format).quantize(key.data(), c.head_dim, nullptr, &keys[to]);
    traits(format).quantize(value.data(), c.head_dim, nullptr, &values[to]);
    traits(format).dequantize(&keys[to], c.head_dim, &key_of[at * c.head_dim]);
    traits(format).dequantize(&values[to], c.head_dim, &value_of[at * c.head_dim]);
  }
  const auto q = randoms(c.group * c.head_dim, 7), sinks = randoms(c.group, 8, 3);
  std::vector<float> out(q.size());
  const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  cpu_kernels(isa_wanted)
      ->attend({.q = q.data(),
                .group = c.group,
                .head_dim = c.head_dim,
                .scale = scale,
                .format = format,
                .keys = keys.data() + kv_head_bytes,
                .values = values.data() + kv_head_bytes,
                .page_bytes = 2 * kv_head_bytes,
                .pages = pages.data(),
                .first = c.first,
                .last = c.last,
                .sinks = c.sinks ? sinks.data() : nullptr,
                .out = out.data()});
  for (int h = 0; h < c.group; ++h) {
    std::vector<double> weights, expected(c.head_dim);
    double most = c.sinks ? sinks[h] : -INFINITY;
    for (int64_t at = c.first; at <= c.last; ++at) {
      double score = 0;
      for (int d = 0; d < c.head_dim; ++d)
        score += double{q[h * c.head_dim + d]} * key_of[at * c.head_dim + d];
      weights.push_back(score * scale);
      most = std::max(most, weights.back());
    }
    double total = c.sinks ? std::exp(sinks[h] - most) : 0;
    for (double& w : weights) total += w = std::exp(w - most);
    for (int64_t at = c.first; at <= c.last; ++at) {
      for (int d = 0; d < c.head_dim; ++d)
        expected[d] += weights[at - c.first] / total * value_of[at * c.head_dim + d];
    }
    for (int d = 0; d < c.head_dim; ++d)
      EXPECT_NEAR(out[h * c.head_dim + d], expected[d], 3e-6) << h << " " << d;
  }
}

}  // namespace
}  // namespace mxgpt::cpu
