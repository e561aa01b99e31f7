// The matrix tiles of every format and instruction set against double arithmetic, over edge shapes.
#include <numeric>

#include "formats/float_bits.h"
#include "formats/support.h"
#include "numerics/matmul_problem.h"

namespace mxgpt {
namespace {

constexpr int kRows[] = {1, 2, 3, 7, 33};
constexpr int kTokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
constexpr int kMaxRows = 33, kMaxTokens = 17;
constexpr float kUntouched = 12345.0f;

/// A float whose bits can be compared.
uint32_t bits(float value) {
  uint32_t b;
  std::memcpy(&b, &value, sizeof b);
  return b;
}

MatmulProblem moderate(Format format, int64_t k) {
  return moderate_problem(format, kMaxRows, kMaxTokens, k);
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

std::vector<float> run(Kernel kernel, const MatmulProblem& p, int64_t rows = kMaxRows,
                       int64_t tokens = kMaxTokens, const int32_t* x_rows = nullptr) {
  std::vector<float> out(tokens * rows, kUntouched);
  MatmulTile tile = p.tile(rows, tokens, out.data(), rows);
  tile.x_rows = x_rows;
  kernel(tile);
  return out;
}

void expect_within(const ExactMatmul& expected, const std::vector<float>& actual, int64_t rows) {
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
  /// Over f32, and q16 where the format has it; with either accumulator.
  std::vector<Kernel> all() const {
    std::vector<Kernel> all;
    for (const Accumulate accumulate : {Accumulate::f32, Accumulate::f16}) {
      all.push_back({kernels().matmul_f32, accumulate});
      if (kernels().matmul_q16) all.push_back({kernels().matmul_q16, accumulate});
    }
    return all;
  }
};

TEST_P(MatmulTest, QuantizedFormatsHaveBothKernels) {
  EXPECT_NE(kernels().matmul_f32, nullptr);
  EXPECT_EQ(kernels().matmul_q16 != nullptr, t().block_elements > 1);
}

TEST_P(MatmulTest, F32WithinRounding) {
  for (int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const MatmulProblem p = moderate(format(), k);
    expect_within(exact_f32(p), run({kernels().matmul_f32}, p), kMaxRows);
  }
}

TEST_P(MatmulTest, Q16WithinRounding) {
  if (!kernels().matmul_q16) return;
  for (int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const MatmulProblem p = moderate(format(), k);
    expect_within(exact_q16(p), run({kernels().matmul_q16}, p), kMaxRows);
  }
}

TEST_P(MatmulTest, ExtremeScales) {
  const MatmulProblem p = extreme_problem(format(), kMaxRows, kMaxTokens,
                                          288 % t().block_elements ? 3 * t().block_elements : 288);
  expect_within(exact_f32(p), run({kernels().matmul_f32}, p), kMaxRows);
  if (kernels().matmul_q16) expect_within(exact_q16(p), run({kernels().matmul_q16}, p), kMaxRows);
}

double squared(const std::vector<double>& values) {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

/// HACKING.md: of paths that reduce precision, normalized mean squared error of at most 5e-4.
TEST_P(MatmulTest, F16AccumulationStaysNearDouble) {
  for (const int64_t k : ks_of(format())) {
    SCOPED_TRACE(k);
    const MatmulProblem p = f16_problem(format(), kMaxRows, kMaxTokens, k);
    for (const bool q16 : {false, true}) {
      if (q16 && !kernels().matmul_q16) continue;
      const auto matmul = q16 ? kernels().matmul_q16 : kernels().matmul_f32;
      const ExactMatmul expected = q16 ? exact_q16(p) : exact_f32(p);
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
      const MatmulProblem p = moderate(format(), k);
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

/// And not on the instruction set: see Kernels. Of f32 activations, that of the fused ones.
TEST_P(MatmulTest, SameBitsOnEveryInstructionSet) {
  const Isa isa = std::get<1>(GetParam());
  if (isa == Isa::scalar) return;
  const auto expect_same = [&](auto kernel, Isa other) {
    for (const Accumulate accumulate : {Accumulate::f32, Accumulate::f16}) {
      for (int64_t k : ks_of(format())) {
        const MatmulProblem p = f16_problem(format(), kMaxRows, kMaxTokens, k);
        const Kernels& others = *t().kernels[static_cast<int>(other)];
        const std::vector<float> a = run({kernels().*kernel, accumulate}, p);
        const std::vector<float> b = run({others.*kernel, accumulate}, p);
        for (size_t i = 0; i < a.size(); ++i)
          ASSERT_EQ(bits(a[i]), bits(b[i])) << "k " << k << " at " << i;
      }
    }
  };
  if (kernels().matmul_q16) expect_same(&Kernels::matmul_q16, Isa::scalar);
  expect_same(&Kernels::matmul_f32, Isa::avx2);
}

/// Nor on whether activations are cut into bytes, which the scalar kernel does not look at.
TEST_P(MatmulTest, SameBitsWithBytes) {
  if (!t().byte_activations) return;
  const auto scalar = t().kernels[static_cast<int>(Isa::scalar)]->matmul_q16;
  for (const Accumulate accumulate : {Accumulate::f32, Accumulate::f16}) {
    for (int64_t k : ks_of(format())) {
      MatmulProblem p = f16_problem(format(), kMaxRows, kMaxTokens, k);
      Random random(static_cast<unsigned>(k));
      p.cut_to_bytes(random);
      const std::vector<float> expected = run({scalar, accumulate}, p);
      for (int rows : kRows) {
        for (int tokens : kTokens) {
          const std::vector<float> out = run({kernels().matmul_q16, accumulate}, p, rows, tokens);
          for (int i = 0; i < rows * tokens; ++i) {
            ASSERT_EQ(bits(out[i]), bits(expected[i / rows * kMaxRows + i % rows]))
                << "k " << k << " rows " << rows << " tokens " << tokens << " at " << i;
          }
        }
      }
      const std::vector<int32_t> x_rows = {3, 0, 0, 16, 5};
      const auto gathered = run({kernels().matmul_q16, accumulate}, p, kMaxRows, 5, x_rows.data());
      for (size_t i = 0; i < gathered.size(); ++i) {
        ASSERT_EQ(bits(gathered[i]),
                  bits(expected[x_rows[i / kMaxRows] * kMaxRows + i % kMaxRows]));
      }
    }
  }
}

TEST_P(MatmulTest, GathersRowsOfX) {
  const MatmulProblem p = moderate(format(), ks_of(format()).back());
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
  const MatmulProblem p = moderate(format(), ks_of(format()).front());
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
  MatmulProblem p = moderate(format(), k);
  p.x.assign(k * k, 0.0f);
  for (int64_t i = 0; i < k; ++i) p.x[i * k + i] = 1;
  const std::vector<float> out = run({kernels().matmul_f32}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], p.w[r * k + i]) << "element " << i;
  }
}

/// The same for 16 bits; scale · q and the offset are picked one at a time.
TEST_P(MatmulTest, UnitVectorsGiveTheWeightsQ16) {
  if (!kernels().matmul_q16) return;
  const int64_t k = t().block_elements;
  MatmulProblem p = moderate(format(), k);
  const WeightParts parts = parts_of(format(), p.weights);
  for (size_t i = 0; i < p.w.size(); ++i) {
    const float offset = parts.offset[i / 16];
    ASSERT_EQ(p.w[i], offset == 0 ? parts.product[i] : parts.product[i] + offset);
  }
  p.scale.assign(k * k / kGroup, 1.0f);
  p.q.assign(k * k, 0);
  for (int64_t i = 0; i < k; ++i) p.q[i * k + placed(i)] = 1;
  p.add_totals();
  p.sum.assign(k * k / 16, 0.0f);
  std::vector<float> out = run({kernels().matmul_q16}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r) ASSERT_EQ(out[i * kMaxRows + r], parts.product[r * k + i]);
  }
  p.q.assign(k * k, 0);
  p.add_totals();
  for (int64_t i = 0; i < k / 16; ++i) p.sum[i * k / 16 + i] = 1;
  out = run({kernels().matmul_q16}, p, kMaxRows, k / 16);
  for (int64_t i = 0; i < k / 16; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], parts.offset[r * k / 16 + i]);
  }
}

TEST_P(MatmulTest, NanStaysInItsRow) {
  const int64_t k = ks_of(format()).back();
  const MatmulProblem clean = moderate(format(), k);
  MatmulProblem p = clean;
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
