// The part of `validate --kernels` for weight formats.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "eval/kernel_check.h"
#include "eval/matmul_problem.h"

namespace mxgpt::eval {
namespace {

/// Bound on the NMSE of kernels that accumulate in f16.
constexpr double kMaxNmse = 5e-4;

/// A problem with exact results.
struct Case {
  std::string shape;
  MatmulProblem problem;
  ExactMatmul f32, int16;
  std::vector<int32_t> x_rows = {};  ///< gather indices of the tokens; empty: in order

  Case(std::string name, MatmulProblem p)
      : shape(std::move(name)), problem(std::move(p)), f32(exact_f32(problem)) {
    if (quant::traits(problem.format).block_elements > 1) int16 = exact_int16(problem);
  }
};

struct Cases {
  std::vector<Case> f32_sums, f16_sums;
  /// One row has a NaN in its last block.
  std::optional<MatmulProblem> nan;
  int64_t nan_row = 3;
};

struct Shape {
  int64_t rows, tokens, blocks;
};

/// Shapes: a single row and token; odd numbers of blocks, with rows and tokens that leave tails in
/// every kernel's tiles; many of each, with about 2880 elements. Unblocked formats: a tail of 7,
/// and one element.
std::vector<Shape> shapes_of(int block_elements) {
  if (block_elements == 1) return {{1, 1, 1}, {3, 2, 31}, {7, 5, 288}, {33, 17, 2880}};
  if (block_elements == quant::kQuantGroup) return {{1, 1, 1}, {1, 1, 9}, {7, 5, 9}, {33, 17, 90}};
  return {{1, 1, 1}, {7, 5, 3}, {33, 17, 9}};
}

Cases cases_of(quant::Format format) {
  Cases cases;
  const int block = quant::traits(format).block_elements;
  for (const auto& [rows, tokens, blocks] : shapes_of(block)) {
    const int64_t k = blocks * block;
    const std::string shape = fmt::format("{} × {} × {}", rows, tokens, k);
    cases.f32_sums.emplace_back(shape, moderate_problem(format, rows, tokens, k));
    // A single sum that nearly cancels has a meaningless relative error: average over several.
    if (rows * tokens > 30)
      cases.f16_sums.emplace_back(shape, f16_problem(format, rows, tokens, k));
  }
  const auto gathered = [](Case c) {
    c.shape += ", gathered rows";
    const auto tokens = static_cast<int32_t>(c.problem.tokens);
    for (int32_t t = 0; t < tokens; ++t) c.x_rows.push_back((3 * t + tokens - 1) % tokens);
    return c;
  };
  cases.f32_sums.push_back(gathered(cases.f32_sums[cases.f32_sums.size() - 2]));
  cases.f16_sums.push_back(gathered(cases.f16_sums.front()));

  if (kernels::gemm_kernels(format).int8_activations) {
    const auto with_outliers = [](const Case& c) {
      MatmulProblem problem = c.problem;
      Random random(13);
      problem.split_outliers(random);
      return Case(c.shape + ", int8 activations with outliers", std::move(problem));
    };
    cases.f32_sums.push_back(with_outliers(cases.f32_sums[cases.f32_sums.size() - 2]));
    cases.f16_sums.push_back(with_outliers(cases.f16_sums.front()));
  }

  const int64_t k = 3 * std::max(block, 96);
  cases.f32_sums.emplace_back(fmt::format("7 × 5 × {}, extreme scales", k),
                              extreme_problem(format, 7, 5, k));
  Random random(11);
  const auto nan = random_block(
      format, random, [](const std::vector<float>& values) { return std::isnan(values[0]); });
  cases.nan = f16_problem(format, 7, 5, k);
  std::copy(nan.begin(), nan.end(),
            cases.nan->weights.begin() + (cases.nan_row + 1) * quant::traits(format).row_bytes(k) -
                static_cast<int64_t>(nan.size()));
  return cases;
}

std::vector<float> run(void (*matmul)(const kernels::GemmArgs&), const MatmulProblem& p,
                       kernels::AccumType accumulate, const std::vector<int32_t>& x_rows = {}) {
  std::vector<float> out(p.rows * p.tokens);
  kernels::GemmArgs tile = p.tile(p.rows, p.tokens, out.data(), p.rows);
  tile.accum_type = accumulate;
  if (!x_rows.empty()) tile.row_indices = x_rows.data();
  matmul(tile);
  return out;
}

void check_matmul(const Cases& cases, bool int16, kernels::AccumType accumulate,
                  void (*matmul)(const kernels::GemmArgs&), KernelCheckResult& result) {
  WorstCase worst(result);
  const bool f16 = accumulate == kernels::AccumType::f16;
  result.measure = f16 ? "NMSE" : "|error| / Σ|terms|";
  for (const Case& c : f16 ? cases.f16_sums : cases.f32_sums) {
    const std::vector<float> out = run(matmul, c.problem, accumulate, c.x_rows);
    const ExactMatmul& exact = int16 ? c.int16 : c.f32;
    double squares = 0, power = 0, error = 0, bound = 1;
    for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
      const int64_t token = i / c.problem.rows, row = i % c.problem.rows;
      const int64_t at = (c.x_rows.empty() ? token : c.x_rows[token]) * c.problem.rows + row;
      const double deviation = std::abs(out[i] - exact.value[at]);
      squares += deviation * deviation;
      power += exact.value[at] * exact.value[at];
      const double size = exact.magnitude[at] > 0 ? exact.magnitude[at] : 1;
      if (!(deviation / exact.bound[at] <= error / bound)) {
        error = deviation / size;
        bound = exact.bound[at] / size;
      }
    }
    f16 ? worst.add(c.shape, squares / power, kMaxNmse) : worst.add(c.shape, error, bound);
  }
  const std::vector<float> out = run(matmul, *cases.nan, accumulate);
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    const bool nan = i % cases.nan->rows == cases.nan_row;
    if (std::isnan(out[i]) != nan) {
      worst.add("NaN in one row", NAN, 0);
      return;
    }
  }
}

double float_value(quant::Format format, uint32_t bits) {
  const int mantissa = format == quant::Format::f16 ? 10 : format == quant::Format::bf16 ? 7 : 23;
  const int exponent_bits = format == quant::Format::f16 ? 5 : 8;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t fraction = bits & ((1u << mantissa) - 1);
  const int exponent = static_cast<int>(bits >> mantissa & ((1u << exponent_bits) - 1));
  const double sign = bits >> (mantissa + exponent_bits) ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
  const double whole = exponent ? 1 : 0;
  return sign * std::ldexp(whole + std::ldexp(fraction, -mantissa), std::max(exponent, 1) - bias);
}

/// Checks dequantized values against the terms of the 16-bit kernel or, for floats, against their
/// bits.
void check_dequantize(quant::Format format, KernelCheckResult& result) {
  const quant::FormatTraits& t = quant::traits(format);
  WorstCase worst(result);
  result.measure = "|error| / Σ|terms|";
  if (t.block_elements > 1) {
    for (const auto& [name, p] :
         {std::pair{"moderate scales", moderate_problem(format, 7, 1, 3 * t.block_elements)},
          {"extreme scales", extreme_problem(format, 33, 1, 9 * t.block_elements)}}) {
      const WeightTerms terms = weight_terms(format, p.weights);
      double max_error = 0;
      for (size_t i = 0; i < p.weight_values.size(); ++i) {
        const double offset = terms.offset[i / 16], product = terms.product[i];
        const double size = std::abs(offset) + std::abs(product);
        if (size > 0)
          max_error = std::max(max_error, std::abs(p.weight_values[i] - (product + offset)) / size);
      }
      worst.add(name, max_error, 0x1p-24);
    }
    return;
  }
  const bool wide = t.block_bytes == 4;
  Random random(3);
  double max_error = 0;
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const uint32_t bits = wide ? static_cast<uint32_t>(random()) : i;
    float value;
    t.dequantize(reinterpret_cast<const std::byte*>(&bits), 1, &value);
    const double exact = float_value(format, bits);
    const bool same = std::isnan(exact) ? std::isnan(value) : value == exact;
    if (!same) max_error = INFINITY;
  }
  worst.add(wide ? "65,536 random bit patterns" : "every bit pattern", max_error, 0);
}

/// No quantizer of a Gaussian with b bits per weight has a relative squared error below 2^-2b
/// (Shannon); a sound one is within a factor of 8. Floats round to nearest.
void check_quantize(quant::Format format, KernelCheckResult& result) {
  const quant::FormatTraits& t = quant::traits(format);
  WorstCase worst(result);
  result.measure = "relative squared error";
  constexpr int64_t kElements = 64 * 256;
  Random random(1);
  const auto quantized = [&](const std::vector<float>& in) {
    std::vector<std::byte> blocks(t.row_bytes(kElements));
    t.quantize(in.data(), kElements, nullptr, blocks.data());
    return dequantized(format, blocks);
  };
  for (const float size : {1.0f, 0x1p-10f, 0x1p10f}) {
    std::normal_distribution<float> normal(0, size);
    std::vector<float> in(kElements);
    for (auto& v : in) v = normal(random);
    const std::vector<float> out = quantized(in);
    double error = 0, power = 0;
    for (int64_t i = 0; i < kElements; ++i) {
      error += std::pow(double{in[i]} - out[i], 2);
      power += std::pow(double{in[i]}, 2);
    }
    const double bits = 8.0 * t.block_bytes / t.block_elements;
    const double half_step = format == quant::Format::f16    ? 0x1p-11
                             : format == quant::Format::bf16 ? 0x1p-8
                                                             : 0;
    const double bound =
        t.block_elements > 1 ? 8 * std::pow(2.0, -2 * bits) : half_step * half_step;
    worst.add(fmt::format("normal, σ = {}", size), error / power, bound);
  }
  for (const float v : quantized(std::vector<float>(kElements))) {
    if (v != 0) worst.add("zeros", NAN, 0);
  }
  std::vector<float> bad(kElements, 1.0f);
  bad[7] = NAN;
  if (!std::isnan(quantized(bad)[7])) worst.add("NaN", NAN, 0);
}

}  // namespace

void check_formats(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results) {
  for (const quant::Format format : all_formats()) {
    const quant::FormatTraits& t = quant::traits(format);
    const auto add_result = [&](const std::string& kernel,
                                const std::string& target) -> KernelCheckResult& {
      return results.emplace_back(
          KernelCheckResult{.kernel = fmt::format("{} {}", t.name, kernel), .target = target});
    };
    check_dequantize(format, add_result("dequantize", "cpu"));
    if (t.quantize) check_quantize(format, add_result("quantize", "cpu"));
    const Cases cases = cases_of(format);
    for (const bool int16 : {false, true}) {
      if (int16 && t.block_elements == 1) continue;
      for (const kernels::AccumType accumulate :
           {kernels::AccumType::f32, kernels::AccumType::f16}) {
        for (const KernelSet& set : sets) {
          const kernels::GemmKernels& kernels = set.formats(format);
          const auto matmul = int16 ? kernels.matmul_int16 : kernels.matmul_f32;
          if (!matmul) continue;
          check_matmul(
              cases, int16, accumulate, matmul,
              add_result(fmt::format("matmul_{}{}", int16 ? "int16" : "f32",
                                     accumulate == kernels::AccumType::f16 ? ", f16 sums" : ""),
                         set.target));
        }
      }
    }
  }
}

}  // namespace mxgpt::eval
