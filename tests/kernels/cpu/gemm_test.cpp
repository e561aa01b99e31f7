// GEMM kernels of every format and instruction set against double precision, for edge-case shapes.
#include "kernels/cpu/gemm.h"

#include <numeric>

#include "eval/matmul_problem.h"
#include "quant/float_bits.h"
#include "support/formats.h"

namespace mxgpt::kernels {
namespace {

constexpr int kRows[] = {1, 2, 3, 7, 33};
constexpr int kTokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
constexpr int kMaxRows = 33, kMaxTokens = 17;
constexpr float kSentinel = 12345.0f;

/// The bits of a float, for comparison.
uint32_t bits(float value) {
  uint32_t b;
  std::memcpy(&b, &value, sizeof b);
  return b;
}

eval::MatmulProblem moderate_problem_of(quant::Format format, int64_t k) {
  return eval::moderate_problem(format, kMaxRows, kMaxTokens, k);
}

std::vector<int64_t> k_values(quant::Format format) {
  const int block = quant::traits(format).block_elements;
  if (block == 1) return {1, 7, 8, 9, 31, 288};
  if (block == quant::kQuantGroup) return {32, 96, 288, 2880};
  return {block, 3 * block};
}

/// A kernel and its accumulator type.
struct BoundKernel {
  void (*matmul)(const GemmArgs&);
  AccumType accumulate = AccumType::f32;

  void operator()(GemmArgs tile) const {
    tile.accum_type = accumulate;
    matmul(tile);
  }
};

std::vector<float> run(BoundKernel kernel, const eval::MatmulProblem& p, int64_t rows = kMaxRows,
                       int64_t tokens = kMaxTokens, const int32_t* row_indices = nullptr) {
  std::vector<float> out(tokens * rows, kSentinel);
  GemmArgs tile = p.tile(rows, tokens, out.data(), rows);
  tile.row_indices = row_indices;
  kernel(tile);
  return out;
}

void expect_within(const eval::ExactMatmul& expected, const std::vector<float>& actual,
                   int64_t rows) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const size_t at = i / rows * kMaxRows + i % rows;
    ASSERT_LE(std::abs(actual[i] - expected.value[at]), expected.bound[at])
        << "token " << i / rows << " row " << i % rows << ": " << actual[i] << " for "
        << expected.value[at];
  }
}

class GemmTest : public testing::TestWithParam<std::tuple<quant::Format, Isa>> {
 protected:
  quant::Format format() const { return std::get<0>(GetParam()); }
  const quant::FormatTraits& t() const { return quant::traits(format()); }
  const GemmKernels& isa_kernels() const { return gemm_kernels(format(), std::get<1>(GetParam())); }
  /// All kernels of the format: f32 and, if available, int16, with either accumulator type.
  std::vector<BoundKernel> all() const {
    std::vector<BoundKernel> all;
    for (const AccumType accumulate : {AccumType::f32, AccumType::f16}) {
      all.push_back({isa_kernels().matmul_f32, accumulate});
      if (isa_kernels().matmul_int16) all.push_back({isa_kernels().matmul_int16, accumulate});
    }
    return all;
  }
};

TEST_P(GemmTest, QuantizedFormatsHaveBothKernels) {
  EXPECT_NE(isa_kernels().matmul_f32, nullptr);
  EXPECT_EQ(isa_kernels().matmul_int16 != nullptr, t().block_elements > 1);
}

TEST_P(GemmTest, F32WithinRounding) {
  for (int64_t k : k_values(format())) {
    SCOPED_TRACE(k);
    const eval::MatmulProblem p = moderate_problem_of(format(), k);
    expect_within(eval::exact_f32(p), run({isa_kernels().matmul_f32}, p), kMaxRows);
  }
}

TEST_P(GemmTest, Q16WithinRounding) {
  if (!isa_kernels().matmul_int16) GTEST_SKIP() << "no int16 kernel";
  for (int64_t k : k_values(format())) {
    SCOPED_TRACE(k);
    const eval::MatmulProblem p = moderate_problem_of(format(), k);
    expect_within(eval::exact_int16(p), run({isa_kernels().matmul_int16}, p), kMaxRows);
  }
}

TEST_P(GemmTest, ExtremeScales) {
  const eval::MatmulProblem p = eval::extreme_problem(
      format(), kMaxRows, kMaxTokens, 288 % t().block_elements ? 3 * t().block_elements : 288);
  expect_within(eval::exact_f32(p), run({isa_kernels().matmul_f32}, p), kMaxRows);
  if (isa_kernels().matmul_int16)
    expect_within(eval::exact_int16(p), run({isa_kernels().matmul_int16}, p), kMaxRows);
}

double squared(const std::vector<double>& values) {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

/// Paths with reduced precision have a normalized mean squared error of at most 5e-4 (HACKING.md).
TEST_P(GemmTest, F16AccumulationStaysNearDouble) {
  for (const int64_t k : k_values(format())) {
    SCOPED_TRACE(k);
    const eval::MatmulProblem p = eval::f16_problem(format(), kMaxRows, kMaxTokens, k);
    for (const bool int16 : {false, true}) {
      if (int16 && !isa_kernels().matmul_int16) continue;
      const auto matmul = int16 ? isa_kernels().matmul_int16 : isa_kernels().matmul_f32;
      const eval::ExactMatmul expected = int16 ? eval::exact_int16(p) : eval::exact_f32(p);
      const std::vector<float> out = run({matmul, AccumType::f16}, p), f32 = run({matmul}, p);
      std::vector<double> errors;
      int rounded_earlier = 0;  // sums that differ from rounding only the result to f16
      for (size_t i = 0; i < out.size(); ++i) {
        errors.push_back(out[i] - expected.value[i]);
        ASSERT_EQ(out[i], quant::f16_to_f32(quant::f32_to_f16(out[i])));
        rounded_earlier += out[i] != quant::f16_to_f32(quant::f32_to_f16(f32[i]));
      }
      EXPECT_LE(squared(errors), 5e-4 * squared(expected.value));
      if (k >= 3 * quant::kQuantGroup) {
        EXPECT_GT(rounded_earlier, kMaxRows) << "only the result is rounded";
      }
    }
  }
}

/// A result depends on its row and token only, not on the tile (kernels/cpu/gemm.h).
TEST_P(GemmTest, SameBitsInEveryTile) {
  for (const BoundKernel& kernel : all()) {
    for (int64_t k : k_values(format())) {
      const eval::MatmulProblem p = moderate_problem_of(format(), k);
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

/// A result does not depend on the instruction set; with f32 activations, among those with FMA.
TEST_P(GemmTest, SameBitsOnEveryInstructionSet) {
  const Isa isa = std::get<1>(GetParam());
  if (isa == Isa::scalar) GTEST_SKIP() << "compared with itself";
  const auto expect_same = [&](auto kernel, Isa other) {
    for (const AccumType accumulate : {AccumType::f32, AccumType::f16}) {
      for (int64_t k : k_values(format())) {
        const eval::MatmulProblem p = eval::f16_problem(format(), kMaxRows, kMaxTokens, k);
        const GemmKernels& others = gemm_kernels(format(), other);
        const std::vector<float> a = run({isa_kernels().*kernel, accumulate}, p);
        const std::vector<float> b = run({others.*kernel, accumulate}, p);
        for (size_t i = 0; i < a.size(); ++i)
          ASSERT_EQ(bits(a[i]), bits(b[i])) << "k " << k << " at " << i;
      }
    }
  };
  if (isa_kernels().matmul_int16) expect_same(&GemmKernels::matmul_int16, Isa::scalar);
  expect_same(&GemmKernels::matmul_f32, Isa::avx2);
}

/// The rounding of activations is part of a model's results, so it may not depend on the kernels.
TEST_P(GemmTest, RoundsActivationsAlikeOnEveryInstructionSet) {
  EXPECT_EQ(isa_kernels().int8_activations, gemm_kernels(format(), Isa::scalar).int8_activations);
}

/// Splitting activations into bytes and outliers, which the scalar kernel ignores, changes no bits.
TEST_P(GemmTest, SameBitsWithBytes) {
  if (!isa_kernels().int8_activations) GTEST_SKIP() << "no int8 activations";
  const auto scalar = gemm_kernels(format(), Isa::scalar).matmul_int16;
  for (const AccumType accumulate : {AccumType::f32, AccumType::f16}) {
    for (int64_t k : k_values(format())) {
      eval::MatmulProblem p = eval::f16_problem(format(), kMaxRows, kMaxTokens, k);
      eval::Random random(static_cast<unsigned>(k));
      p.split_outliers(random);
      const std::vector<float> expected = run({scalar, accumulate}, p);
      for (int rows : kRows) {
        for (int tokens : kTokens) {
          const std::vector<float> out =
              run({isa_kernels().matmul_int16, accumulate}, p, rows, tokens);
          for (int i = 0; i < rows * tokens; ++i) {
            ASSERT_EQ(bits(out[i]), bits(expected[i / rows * kMaxRows + i % rows]))
                << "k " << k << " rows " << rows << " tokens " << tokens << " at " << i;
          }
        }
      }
      const std::vector<int32_t> row_indices = {3, 0, 0, 16, 5};
      const auto gathered =
          run({isa_kernels().matmul_int16, accumulate}, p, kMaxRows, 5, row_indices.data());
      for (size_t i = 0; i < gathered.size(); ++i) {
        ASSERT_EQ(bits(gathered[i]),
                  bits(expected[row_indices[i / kMaxRows] * kMaxRows + i % kMaxRows]));
      }
    }
  }
}

TEST_P(GemmTest, GathersRowsOfX) {
  const eval::MatmulProblem p = moderate_problem_of(format(), k_values(format()).back());
  const std::vector<int32_t> row_indices = {3, 0, 0, 16, 5, 5, 12, 1, 9, 2, 16};
  for (const BoundKernel& kernel : all()) {
    const std::vector<float> whole = run(kernel, p);
    const std::vector<float> gathered =
        run(kernel, p, kMaxRows, row_indices.size(), row_indices.data());
    for (size_t i = 0; i < gathered.size(); ++i) {
      ASSERT_EQ(bits(gathered[i]),
                bits(whole[row_indices[i / kMaxRows] * kMaxRows + i % kMaxRows]));
    }
  }
}

TEST_P(GemmTest, WritesNothingBeside) {
  const eval::MatmulProblem p = moderate_problem_of(format(), k_values(format()).front());
  for (const BoundKernel& kernel : all()) {
    for (int rows : kRows) {
      for (int tokens : kTokens) {
        const int stride = rows + 3;
        std::vector<float> out(tokens * stride, kSentinel);
        kernel(p.tile(rows, tokens, out.data(), stride));
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(out[i] == kSentinel, static_cast<int>(i) % stride >= rows);
        }
      }
    }
  }
}

/// A unit vector selects one weight without rounding, which checks the position of every element.
TEST_P(GemmTest, UnitVectorsGiveTheWeights) {
  const int64_t k = t().block_elements == 1 ? 31 : t().block_elements * 2;
  eval::MatmulProblem p = moderate_problem_of(format(), k);
  p.x.assign(k * k, 0.0f);
  for (int64_t i = 0; i < k; ++i) p.x[i * k + i] = 1;
  const std::vector<float> out = run({isa_kernels().matmul_f32}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], p.weight_values[r * k + i]) << "element " << i;
  }
}

/// The same with 16-bit activations; scale · q and the offset are selected separately.
TEST_P(GemmTest, UnitVectorsGiveTheWeightsQ16) {
  if (!isa_kernels().matmul_int16) GTEST_SKIP() << "no int16 kernel";
  const int64_t k = t().block_elements;
  eval::MatmulProblem p = moderate_problem_of(format(), k);
  const eval::WeightTerms parts = eval::weight_terms(format(), p.weights);
  for (size_t i = 0; i < p.weight_values.size(); ++i) {
    const float offset = parts.offset[i / 16];
    ASSERT_EQ(p.weight_values[i], offset == 0 ? parts.product[i] : parts.product[i] + offset);
  }
  p.scale.assign(k * k / quant::kQuantGroup, 1.0f);
  p.q.assign(k * k, 0);
  for (int64_t i = 0; i < k; ++i) p.q[i * k + eval::interleaved_offset(i)] = 1;
  p.compute_sums();
  p.sum.assign(k * k / 16, 0.0f);
  std::vector<float> out = run({isa_kernels().matmul_int16}, p, kMaxRows, k);
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < kMaxRows; ++r) ASSERT_EQ(out[i * kMaxRows + r], parts.product[r * k + i]);
  }
  p.q.assign(k * k, 0);
  p.compute_sums();
  for (int64_t i = 0; i < k / 16; ++i) p.sum[i * k / 16 + i] = 1;
  out = run({isa_kernels().matmul_int16}, p, kMaxRows, k / 16);
  for (int64_t i = 0; i < k / 16; ++i) {
    for (int r = 0; r < kMaxRows; ++r)
      ASSERT_EQ(out[i * kMaxRows + r], parts.offset[r * k / 16 + i]);
  }
}

TEST_P(GemmTest, NanStaysInItsRow) {
  const int64_t k = k_values(format()).back();
  const eval::MatmulProblem clean = moderate_problem_of(format(), k);
  eval::MatmulProblem p = clean;
  eval::Random random(11);
  const auto nan = eval::random_block(
      format(), random, [](const std::vector<float>& values) { return std::isnan(values[0]); });
  // In the second block of row 5 and the last of row 32.
  std::copy(nan.begin(), nan.end(), p.weights.begin() + 5 * t().row_bytes(k) + nan.size());
  std::copy(nan.begin(), nan.end(), p.weights.end() - nan.size());
  for (const BoundKernel& kernel : all()) {
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

/// From 2048 on, f16 has a spacing of two, so halves added one at a time are lost. 2^15 + 2^15
/// overflows.
TEST(F16Accumulation, IsThatOfTheDefinition) {
  constexpr int64_t k = 8 * quant::kQuantGroup;
  for (const Isa isa : eval::supported_isas()) {
    const auto matmul = gemm_kernels(quant::Format::f32, isa).matmul_f32;
    const std::vector<float> w(k, 1.0f);
    const auto sum = [&](float first, float others, int64_t step, AccumType accumulate) {
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
              .accum_type = accumulate});
      return out;
    };
    EXPECT_EQ(sum(2048, 0.5f, quant::kQuantGroup, AccumType::f32), 2048 + 3.5f);
    EXPECT_EQ(sum(2048, 0.5f, quant::kQuantGroup, AccumType::f16), 2048);
    // Four halves of a group are summed before rounding: first 2049.5, then 2 per group.
    EXPECT_EQ(sum(2048, 0.5f, 8, AccumType::f16), 2050 + 7 * 2);
    EXPECT_EQ(sum(0x1p15f, 0x1p15f, 4 * quant::kQuantGroup, AccumType::f16), INFINITY);
    EXPECT_EQ(sum(-0x1p15f, -0x1p15f, 4 * quant::kQuantGroup, AccumType::f16), -INFINITY);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, GemmTest,
                         testing::Combine(testing::ValuesIn(eval::all_formats()),
                                          testing::ValuesIn(eval::supported_isas())),
                         [](const auto& info) {
                           return std::string(quant::traits(std::get<0>(info.param)).name) + "_" +
                                  isa_name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace mxgpt::kernels
