// The matrix tiles of every format and instruction set against double arithmetic, over edge shapes.
//
// The bounds are those of floating-point summation: a result that takes n roundings of unit u =
// 2^-24 is within n u / (1 - n u) of the exact one, relative to the sum of the terms' magnitudes
// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); where terms underflow,
// 2^-149 each is added.
#include <numeric>

#include "formats/float_bits.h"
#include "formats/support.h"

namespace mxgpt {
namespace {

constexpr int kRows[] = {1, 2, 3, 7, 33};
constexpr int kTokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
constexpr int kMaxRows = 33, kMaxTokens = 17;
constexpr float kUntouched = 12345.0f;

double rounding_bound(double roundings) {
  const double e = roundings * 0x1p-24;
  return e / (1 - e);
}

/// A float whose bits can be compared.
uint32_t bits(float value) {
  uint32_t b;
  std::memcpy(&b, &value, sizeof b);
  return b;
}

/// Weights and activations of one k, for up to kMaxRows and kMaxTokens.
struct Problem {
  Format format;
  int64_t k;
  std::vector<std::byte> weights = {};
  std::vector<float> w = {};  ///< the weights' values
  std::vector<float> x = {};
  std::vector<int8_t> q = {};
  std::vector<float> scale = {}, sum = {};

  MatmulTile tile(int64_t rows, int64_t tokens, float* out, int64_t out_stride) const {
    return {.weights = weights.data(),
            .row_bytes = traits(format).row_bytes(k),
            .rows = rows,
            .k = k,
            .x = x.data(),
            .x8 = {.q = q.data(), .scale = scale.data(), .sum = sum.data()},
            .x_rows = nullptr,
            .tokens = tokens,
            .out = out,
            .out_stride = out_stride};
  }
};

void add_activations(Problem& p, float size, Random& random) {
  std::normal_distribution<float> normal(0, size);
  p.x.resize(kMaxTokens * p.k);
  for (auto& v : p.x) v = normal(random);
  if (p.k % kGroup) return;
  p.q.resize(kMaxTokens * p.k);
  p.scale.resize(p.q.size() / kGroup);
  p.sum.resize(p.q.size() / 16);
  for (auto& v : p.q) v = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  for (int64_t i = 0; i < p.k; ++i) {  // the largest sums of products that there are
    p.q[i] = 127;
    p.q[p.k + i] = -127;
    p.q[2 * p.k + i] = i % 2 ? 127 : -127;
    p.q[3 * p.k + i] = 0;
  }
  for (auto& v : p.scale) v = std::abs(normal(random)) / 64;
  for (size_t i = 0; i < p.sum.size(); ++i) {
    p.sum[i] =
        p.scale[i / 2] * static_cast<float>(std::accumulate(&p.q[i * 16], &p.q[i * 16] + 16, 0));
  }
}

/// No sum of it is beyond f16, in either kind of activations.
Problem f16_problem(Format format, int64_t k) {
  Random random(static_cast<unsigned>(k));
  Problem p{.format = format, .k = k};
  for (int64_t i = 0; i < kMaxRows * k / traits(format).block_elements; ++i) {
    const auto block = random_block(format, random, [](const std::vector<float>& values) {
      return magnitude(values) > 0x1p-6f && magnitude(values) < 0x1p6f;
    });
    p.weights.insert(p.weights.end(), block.begin(), block.end());
  }
  p.w = dequantized(format, p.weights);
  add_activations(p, 0x1p-4f, random);
  return p;
}

Problem moderate_problem(Format format, int64_t k) {
  Random random(static_cast<unsigned>(k));
  Problem p{.format = format, .k = k};
  const int block_bytes = traits(format).block_bytes;
  p.weights = moderate_blocks(format, kMaxRows * k, random);
  // Rows of one byte throughout, where that makes sense: the extremes of q, among them -128 of
  // Q8_0.
  int row = 0;
  for (int byte : {0x80, 0x7b, 0x08, 0x77, 0xf8}) {
    const std::vector<std::byte> block(block_bytes, static_cast<std::byte>(byte));
    const float largest = magnitude(dequantized(format, block));
    if (!(largest > 0x1p-20f && largest < 0x1p20f)) continue;
    std::fill_n(p.weights.begin() + row++ * traits(format).row_bytes(k),
                traits(format).row_bytes(k), static_cast<std::byte>(byte));
  }
  p.w = dequantized(format, p.weights);
  add_activations(p, 1, random);
  return p;
}

/// Values of any finite size, with activations so small that no sum overflows.
Problem extreme_problem(Format format, int64_t k) {
  Random random(7);
  Problem p{.format = format, .k = k};
  for (int64_t i = 0; i < kMaxRows * k / traits(format).block_elements; ++i) {
    const auto block = random_block(format, random, [](const std::vector<float>& values) {
      return !std::isnan(magnitude(values));
    });
    p.weights.insert(p.weights.end(), block.begin(), block.end());
  }
  p.w = dequantized(format, p.weights);
  add_activations(p, 0x1p-16f, random);
  return p;
}

std::vector<int64_t> ks_of(Format format) {
  const int block = traits(format).block_elements;
  if (block == 1) return {1, 7, 8, 9, 31, 288};
  if (block == kGroup) return {32, 96, 288, 2880};
  return {block, 3 * block};
}

/// A kernel with what it sums in.
struct Kernel {
  void (*matmul)(const MatmulTile&);
  Accumulate accumulate = Accumulate::f32;

  void operator()(MatmulTile tile) const {
    tile.accumulate = accumulate;
    matmul(tile);
  }
};

std::vector<float> run(Kernel kernel, const Problem& p, int64_t rows = kMaxRows,
                       int64_t tokens = kMaxTokens, const int32_t* x_rows = nullptr) {
  std::vector<float> out(tokens * rows, kUntouched);
  MatmulTile tile = p.tile(rows, tokens, out.data(), rows);
  tile.x_rows = x_rows;
  kernel(tile);
  return out;
}

/// The exact result of each (token, row), and how far a kernel may be from it.
struct Expected {
  std::vector<double> value, bound;
};

Expected expect_f32(const Problem& p) {
  Expected e;
  for (int64_t t = 0; t < kMaxTokens; ++t) {
    for (int64_t r = 0; r < kMaxRows; ++r) {
      double sum = 0, magnitudes = 0;
      for (int64_t i = 0; i < p.k; ++i) {
        const double term = double{p.w[r * p.k + i]} * double{p.x[t * p.k + i]};
        sum += term;
        magnitudes += std::abs(term);
      }
      e.value.push_back(sum);
      // A product, at most k sums, and the three that add up the lanes.
      e.bound.push_back(rounding_bound(p.k + 4) * magnitudes + p.k * 0x1p-149);
    }
  }
  return e;
}

/// scale · q of each weight and the offset of each half of a group, by the scalar kernel on
/// activations that pick one of them.
struct Parts {
  std::vector<float> product;  // [rows][k]
  std::vector<float> offset;   // [rows][k / 16]
};

Parts parts_of(const Problem& p) {
  const FormatTraits& t = traits(p.format);
  const int64_t n = t.block_elements;
  std::vector<int8_t> q(n * n, 0), no_q(n * n, 0);
  for (int64_t i = 0; i < n; ++i) q[i * n + i] = 1;
  const std::vector<float> ones(n * n / kGroup, 1.0f), no_sum(n * n / 16, 0.0f);
  std::vector<float> sum((n / 16) * (n / 16), 0.0f);
  for (int64_t i = 0; i < n / 16; ++i) sum[i * (n / 16) + i] = 1;

  Parts parts{std::vector<float>(p.w.size()), std::vector<float>(p.w.size() / 16)};
  for (size_t at = 0; at < p.w.size(); at += n) {
    MatmulTile tile{.weights = p.weights.data() + at / n * t.block_bytes,
                    .row_bytes = t.block_bytes,
                    .rows = 1,
                    .k = n,
                    .x = nullptr,
                    .x8 = {.q = q.data(), .scale = ones.data(), .sum = no_sum.data()},
                    .x_rows = nullptr,
                    .tokens = n,
                    .out = &parts.product[at],
                    .out_stride = 1};
    const auto& kernels = *t.kernels[static_cast<int>(Isa::scalar)];
    kernels.matmul_q8(tile);
    tile.x8 = {.q = no_q.data(), .scale = ones.data(), .sum = sum.data()};
    tile.tokens = n / 16;
    tile.out = &parts.offset[at / 16];
    kernels.matmul_q8(tile);
  }
  return parts;
}

Expected expect_q8(const Problem& p) {
  const Parts w = parts_of(p);
  Expected e;
  for (int64_t t = 0; t < kMaxTokens; ++t) {
    for (int64_t r = 0; r < kMaxRows; ++r) {
      double sum = 0, magnitudes = 0;
      for (int64_t i = 0; i < p.k; ++i) {
        const int64_t x = t * p.k + i;
        const double term = double{w.product[r * p.k + i]} * double{p.scale[x / kGroup]} * p.q[x];
        sum += term;
        magnitudes += std::abs(term);
      }
      for (int64_t i = 0; i < p.k / 16; ++i) {
        const double term = double{w.offset[r * p.k / 16 + i]} * double{p.sum[t * p.k / 16 + i]};
        sum += term;
        magnitudes += std::abs(term);
      }
      e.value.push_back(sum);
      // Sums: at most two for each half of a group, and three for the lanes. Products: three, of
      // which one is the rounding of w.product here. A product of scales that underflows is
      // multiplied by up to 127².
      e.bound.push_back(rounding_bound(p.k / 8 + 6) * magnitudes + p.k * 128 * 128 * 0x1p-149);
    }
  }
  return e;
}

void expect_within(const Expected& expected, const std::vector<float>& actual, int64_t rows) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const size_t at = i / rows * kMaxRows + i % rows;
    ASSERT_LE(std::abs(actual[i] - expected.value[at]), expected.bound[at])
        << "token " << i / rows << " row " << i % rows << ": " << actual[i] << " for "
        << expected.value[at];
  }
}

class MatmulTest : public testing::TestWithParam<std::tuple<Format, Isa>> {
 protected:
  Format format() const { return std::get<0>(GetParam()); }
  const FormatTraits& t() const { return traits(format()); }
  const Kernels& kernels() const { return *t().kernels[static_cast<int>(std::get<1>(GetParam()))]; }
  /// Over f32, and q8 where the format has it; with either accumulator.
  std::vector<Kernel> all() const {
    std::vector<Kernel> all;
    for (const Accumulate accumulate : {Accumulate::f32, Accumulate::f16}) {
      all.push_back({kernels().matmul_f32, accumulate});
      if (kernels().matmul_q8) all.push_back({kernels().matmul_q8, accumulate});
    }
    return all;
  }
};

TEST_P(MatmulTest, QuantizedFormatsHaveBothKernels) {
  EXPECT_NE(kernels().matmul_f32, nullptr);
  EXPECT_EQ(kernels().matmul_q8 != nullptr, t().block_elements > 1);
}

TEST_P(MatmulTest, F32WithinRounding) {
  for (int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const Problem p = moderate_problem(format(), k);
    expect_within(expect_f32(p), run({kernels().matmul_f32}, p), kMaxRows);
  }
}

TEST_P(MatmulTest, Q8WithinRounding) {
  if (!kernels().matmul_q8) return;
  for (int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const Problem p = moderate_problem(format(), k);
    expect_within(expect_q8(p), run({kernels().matmul_q8}, p), kMaxRows);
  }
}

TEST_P(MatmulTest, ExtremeScales) {
  const Problem p =
      extreme_problem(format(), 288 % t().block_elements ? 3 * t().block_elements : 288);
  expect_within(expect_f32(p), run({kernels().matmul_f32}, p), kMaxRows);
  if (kernels().matmul_q8) expect_within(expect_q8(p), run({kernels().matmul_q8}, p), kMaxRows);
}

double squared(const std::vector<double>& values) {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

/// HACKING.md: of paths that reduce precision, normalized mean squared error of at most 5e-4.
TEST_P(MatmulTest, F16AccumulationStaysNearDouble) {
  for (const int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const Problem p = f16_problem(format(), k);
    for (const bool q8 : {false, true}) {
      if (q8 && !kernels().matmul_q8) continue;
      const auto matmul = q8 ? kernels().matmul_q8 : kernels().matmul_f32;
      const Expected expected = q8 ? expect_q8(p) : expect_f32(p);
      const std::vector<float> out = run({matmul, Accumulate::f16}, p), f32 = run({matmul}, p);
      std::vector<double> errors;
      int kept_less = 0;  // than one rounding of the whole sum to f16 would have
      for (size_t i = 0; i < out.size(); ++i) {
        errors.push_back(out[i] - expected.value[i]);
        ASSERT_EQ(out[i], f16_to_f32(f32_to_f16(out[i])));
        kept_less += out[i] != f16_to_f32(f32_to_f16(f32[i]));
      }
      EXPECT_LE(squared(errors), 5e-4 * squared(expected.value));
      if (k >= 3 * kGroup) {
        EXPECT_GT(kept_less, kMaxRows) << "only the result is rounded";
      }
    }
  }
}

/// The promise of format.h: a result depends on its row and its token, not on the tile.
TEST_P(MatmulTest, SameBitsInEveryTile) {
  for (const Kernel& kernel : all()) {
    for (int64_t k : ks_of(format())) {
      const Problem p = moderate_problem(format(), k);
      const std::vector<float> whole = run(kernel, p);
      for (int rows : kRows) {
        for (int tokens : kTokens) {
          const std::vector<float> part = run(kernel, p, rows, tokens);
          for (int i = 0; i < rows * tokens; ++i) {
            ASSERT_EQ(bits(part[i]), bits(whole[i / rows * kMaxRows + i % rows]))
                << "k " << k << " rows " << rows << " tokens " << tokens << " at " << i;
          }
        }
      }
    }
  }
}

TEST_P(MatmulTest, GathersRowsOfX) {
  const Problem p = moderate_problem(format(), ks_of(format()).back());
  const std::vector<int32_t> x_rows = {3, 0, 0, 16, 5, 5, 12, 1, 9, 2, 16};
  for (const Kernel& kernel : all()) {
    const std::vector<float> whole = run(kernel, p);
    const std::vector<float> gathered = run(kernel, p, kMaxRows, x_rows.size(), x_rows.data());
    for (size_t i = 0; i < gathered.size(); ++i) {
      ASSERT_EQ(bits(gathered[i]), bits(whole[x_rows[i / kMaxRows] * kMaxRows + i % kMaxRows]));
    }
  }
}

TEST_P(MatmulTest, WritesNothingBeside) {
  const Problem p = moderate_problem(format(), ks_of(format()).front());
  for (const Kernel& kernel : all()) {
    for (int rows : kRows) {
      for (int tokens : kTokens) {
        const int stride = rows + 3;
        std::vector<float> out(tokens * stride, kUntouched);
        kernel(p.tile(rows, tokens, out.data(), stride));
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(out[i] == kUntouched, static_cast<int>(i) % stride >= rows);
        }
      }
    }
  }
}

/// A unit vector picks one weight, without rounding: each element of each block is where it should
/// be.
TEST_P(MatmulTest, UnitVectorsGiveTheWeights) {
  const int64_t k = t().block_elements == 1 ? 31 : t().block_elements * 2;
  Problem p = moderate_problem(format(), k);
  p.x.assign(k * k, 0.0f);
  for (int64_t i = 0; i < k; ++i) p.x[i * k + i] = 1;
  const std::vector<float> out = run({kernels().matmul_f32}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], p.w[r * k + i]) << "element " << i;
  }
}

/// The same for 8 bits; scale · q and the offset are picked one at a time.
TEST_P(MatmulTest, UnitVectorsGiveTheWeightsQ8) {
  if (!kernels().matmul_q8) return;
  const int64_t k = t().block_elements;
  Problem p = moderate_problem(format(), k);
  const Parts parts = parts_of(p);
  for (size_t i = 0; i < p.w.size(); ++i) {
    const float offset = parts.offset[i / 16];
    ASSERT_EQ(p.w[i], offset == 0 ? parts.product[i] : parts.product[i] + offset);
  }
  p.scale.assign(k * k / kGroup, 1.0f);
  p.q.assign(k * k, 0);
  p.sum.assign(k * k / 16, 0.0f);
  for (int64_t i = 0; i < k; ++i) p.q[i * k + i] = 1;
  std::vector<float> out = run({kernels().matmul_q8}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r) ASSERT_EQ(out[i * kMaxRows + r], parts.product[r * k + i]);
  }
  p.q.assign(k * k, 0);
  for (int64_t i = 0; i < k / 16; ++i) p.sum[i * k / 16 + i] = 1;
  out = run({kernels().matmul_q8}, p, kMaxRows, k / 16);
  for (int64_t i = 0; i < k / 16; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], parts.offset[r * k / 16 + i]);
  }
}

TEST_P(MatmulTest, NanStaysInItsRow) {
  const int64_t k = ks_of(format()).back();
  const Problem clean = moderate_problem(format(), k);
  Problem p = clean;
  Random random(11);
  const auto nan = random_block(
      format(), random, [](const std::vector<float>& values) { return std::isnan(values[0]); });
  // In the second block of row 5, and the last of row 32.
  std::copy(nan.begin(), nan.end(), p.weights.begin() + 5 * t().row_bytes(k) + nan.size());
  std::copy(nan.begin(), nan.end(), p.weights.end() - nan.size());
  for (const Kernel& kernel : all()) {
    const std::vector<float> before = run(kernel, clean), after = run(kernel, p);
    for (size_t i = 0; i < after.size(); ++i) {
      const size_t row = i % kMaxRows;
      if (row == 5 || row == 32)
        ASSERT_TRUE(std::isnan(after[i])) << "row " << row;
      else
        ASSERT_EQ(bits(after[i]), bits(before[i]));
    }
  }
}

/// 2048 and more has steps of two in f16, so that halves added one by one are lost; 2^15 twice is
/// too much.
TEST(F16Accumulation, IsThatOfTheDefinition) {
  constexpr int64_t k = 8 * kGroup;
  for (const Isa isa : present_isas()) {
    const auto matmul = traits(Format::f32).kernels[static_cast<int>(isa)]->matmul_f32;
    const std::vector<float> w(k, 1.0f);
    const auto sum = [&](float first, float others, int64_t step, Accumulate accumulate) {
      std::vector<float> x(k);
      for (int64_t i = 0; i < k; i += step) x[i] = i ? others : first;
      float out;
      matmul({.weights = reinterpret_cast<const std::byte*>(w.data()),
              .row_bytes = k * 4,
              .rows = 1,
              .k = k,
              .x = x.data(),
              .tokens = 1,
              .out = &out,
              .out_stride = 1,
              .accumulate = accumulate});
      return out;
    };
    EXPECT_EQ(sum(2048, 0.5f, kGroup, Accumulate::f32), 2048 + 3.5f);
    EXPECT_EQ(sum(2048, 0.5f, kGroup, Accumulate::f16), 2048);
    // Four of a group are added up before the sum is rounded: 2049.5, and from then on 2 a group.
    EXPECT_EQ(sum(2048, 0.5f, 8, Accumulate::f16), 2050 + 7 * 2);
    EXPECT_EQ(sum(0x1p15f, 0x1p15f, 4 * kGroup, Accumulate::f16), INFINITY);
    EXPECT_EQ(sum(-0x1p15f, -0x1p15f, 4 * kGroup, Accumulate::f16), -INFINITY);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, MatmulTest,
                         testing::Combine(testing::ValuesIn(all_formats()),
                                          testing::ValuesIn(present_isas())),
                         [](const auto& info) {
                           return std::string(traits(std::get<0>(info.param)).name) + "_" +
                                  isa_name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace mxgpt
