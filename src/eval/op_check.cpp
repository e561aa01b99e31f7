// The part of `validate --kernels` for everything but weight formats: kernels of the ops, and two
// ops that are implemented by the backend itself.
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "eval/attention_problem.h"
#include "eval/kernel_check.h"
#include "eval/matmul_problem.h"
#include "eval/random_weights.h"

namespace mxgpt::eval {
namespace {

std::vector<float> normal(int64_t n, float size, uint32_t seed) {
  Random random(seed);
  std::normal_distribution<float> distribution(0, size);
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

backend::Tensor vector_of(const std::vector<float>& values) {
  return {quant::Format::f32, std::as_bytes(std::span(values)).data(), 1, 1, std::ssize(values)};
}

/// Maximum |error| / tolerance.
double max_error_over_tolerance(const std::vector<float>& out, const std::vector<double>& exact,
                                const std::vector<double>& tolerance) {
  double max_error = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double ratio = std::abs(out[i] - exact[i]) / tolerance[i];
    if (!(ratio <= max_error)) max_error = ratio;
  }
  return max_error;
}

constexpr const char* kErrorOverTolerance = "max |error| / tolerance";

void check_quantize_int16(const cpu::CpuKernels& kernels, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "|error| / scale";
  for (const int64_t k : {32, 288, 2880}) {
    const std::vector<float> x = normal(k, 1, 1);
    std::vector<int16_t> q(k);
    std::vector<float> scale(k / 32), sum(k / 16);
    std::vector<int32_t> total(k / 16);
    kernels.quantize_int16(x.data(), k, q.data(), scale.data(), sum.data(), total.data(), nullptr);
    double max_error = 0;
    for (int64_t i = 0; i < k; ++i)
      max_error = std::max(
          max_error, std::abs(double{x[i]} - double{scale[i / 32]} * q[interleaved_offset(i)]) /
                         scale[i / 32]);
    for (int64_t half = 0; half < k / 16; ++half) {
      int expected = 0;
      for (int64_t i = half * 16; i < half * 16 + 16; ++i) expected += q[interleaved_offset(i)];
      if (total[half] != expected || sum[half] != scale[half / 2] * static_cast<float>(expected))
        max_error = NAN;
    }
    // Half a quantization step, plus f32 rounding of x / scale, which reaches 2^15 steps.
    worst.add(fmt::format("{} elements", k), max_error, 0.5 + 0x1p15 * 0x1p-22);
  }
  std::vector<float> bad(32, 1.0f);
  bad[31] = INFINITY;
  int16_t q[32];
  float scale, sum[2];
  int32_t total[2];
  kernels.quantize_int16(bad.data(), 32, q, &scale, sum, total, nullptr);
  if (!std::isnan(scale)) worst.add("infinity", NAN, 0);
}

void check_norm(backend::NormKind kind, const cpu::CpuKernels& kernels, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  for (const int64_t n : {1, 7, 255, 257, 288, 2880}) {
    for (const float size : {1e-12f, 1.0f, 1e6f}) {
      std::vector<float> x = normal(n, size, 2);
      for (float& v : x) v += size;
      const std::vector<float> weight = normal(n, 1, 3), bias = normal(n, 1, 4);
      backend::Norm norm{.weight = vector_of(weight), .kind = kind};
      if (kind == backend::NormKind::layer) norm.bias = vector_of(bias);
      std::vector<float> out(n);
      kernels.norm(norm, x.data(), n, out.data());
      const std::vector<double> exact = reference::norm(norm, x);
      std::vector<double> tolerance;
      for (int64_t i = 0; i < n; ++i) {
        // LayerNorm: one ulp of the mean, times the scale, is about one ulp of the largest outputs.
        const double shift =
            kind == backend::NormKind::layer ? std::abs(weight[i]) + std::abs(bias[i]) : 0;
        tolerance.push_back(1e-6 * (std::abs(exact[i]) + shift) + 1e-30);
      }
      worst.add(fmt::format("{} elements of size {}", n, size),
                max_error_over_tolerance(out, exact, tolerance), 1);
    }
  }
}

void check_rotate(backend::RopeStyle pairs, const cpu::CpuKernels& kernels,
                  KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  for (const int64_t d : {2, 6, 64, 80, 128}) {
    std::vector<float> head = normal(d, 1, 4), cos(d / 2), sin(d / 2);
    const std::vector<float> before = head;
    for (int64_t i = 0; i < d / 2; ++i) {
      cos[i] = std::cos(0.3f * static_cast<float>(i));
      sin[i] = std::sin(0.3f * static_cast<float>(i));
    }
    kernels.apply_rope(pairs, head.data(), cos.data(), sin.data(), d);
    worst.add(
        fmt::format("head of {}", d),
        max_error_over_tolerance(head, reference::rotate(pairs, before, cos.data(), sin.data()),
                                 std::vector<double>(d, 1e-6)),
        1);
  }
}

void check_activate(const backend::Activation& activation, const cpu::CpuKernels& kernels,
                    KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  for (const int64_t n : {1, 5, 9, 288, 2880}) {
    for (const bool gated : {true, false}) {
      if (!gated && activation.kind == backend::ActivationKind::clamped_swiglu) continue;
      std::vector<float> gate = normal(n, 4, 5), up = normal(n, 4, 6);
      gate[0] = 100;
      if (n > 5) gate[5] = -60, gate[4] = 0;
      const std::vector<float> before = gate;
      kernels.activate(activation, gate.data(), gated ? up.data() : nullptr, n);
      std::vector<double> exact, tolerance;
      for (int64_t i = 0; i < n; ++i) {
        const double u = gated ? up[i] : 1;
        exact.push_back(reference::activate(activation, before[i], u));
        // As the activation approaches zero on the left, f32 loses relative accuracy; the error
        // stays small relative to the gate.
        tolerance.push_back((2e-6 * std::abs(before[i]) + 1e-12) * (std::abs(u) + 1));
      }
      worst.add(fmt::format("{} elements{}", n, gated ? "" : ", no gate"),
                max_error_over_tolerance(gate, exact, tolerance), 1);
    }
  }
}

void check_add_scaled(const cpu::CpuKernels& kernels, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  for (const int64_t n : {1, 9, 2880}) {
    const std::vector<float> x = normal(n, 1, 7);
    std::vector<float> y = normal(n, 1, 8);
    std::vector<double> exact, tolerance;
    for (int64_t i = 0; i < n; ++i) {
      exact.push_back(y[i] + double{x[i]} * 0.3f);
      tolerance.push_back(0x1p-23 * (std::abs(y[i]) + std::abs(x[i])));
    }
    kernels.add_scaled(x.data(), 0.3f, n, y.data());
    worst.add(fmt::format("{} elements", n), max_error_over_tolerance(y, exact, tolerance), 1);
  }
}

void check_attend(quant::Format format, const cpu::CpuKernels& kernels, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "max |error|";
  for (const AttentionCase& c : kAttentionCases) {
    if (c.head_dim % quant::traits(format).block_elements) continue;
    const AttentionProblem problem(format, c);
    const std::vector<double> exact = problem.exact();
    const std::vector<float> out = problem.attend(kernels);
    worst.add(c.name, max_error_over_tolerance(out, exact, std::vector<double>(out.size(), 1)),
              3e-6);
  }
}

/// Error of rounding to the cache format; the bound is that for ops of reduced precision.
void check_kv_format(quant::Format format, const cpu::CpuKernels& kernels,
                     KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "NMSE";
  for (const AttentionCase& c : kAttentionCases) {
    if (c.head_dim % quant::traits(format).block_elements) continue;
    const AttentionProblem problem(format, c);
    const std::vector<double> exact = problem.exact_unrounded();
    const std::vector<float> out = problem.attend(kernels);
    double error = 0, size = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      error += std::pow(out[i] - exact[i], 2);
      size += exact[i] * exact[i];
    }
    worst.add(c.name, error / size, 5e-4);
  }
}

/// A batch of rows of one sequence.
struct SingleSequenceBatch {
  std::vector<int32_t> tokens, positions, sequences;
  backend::Batch batch;

  explicit SingleSequenceBatch(int64_t n) : tokens(n), positions(n), sequences(n) {
    std::iota(tokens.begin(), tokens.end(), 1);
    std::iota(positions.begin(), positions.end(), 3);
    batch = {.tokens = tokens, .positions = positions, .sequences = sequences};
  }
};

/// x = scale · table[token] + positions[position].
void check_embed(const OpRunner& ops, quant::Format format, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  constexpr int64_t kWidth = 768, kTable = 40;
  Random random(5);
  const std::vector<std::byte> table = random_blocks(format, kTable * kWidth, 1e-3f, 1e3f, random);
  const std::vector<float> values = dequantized(format, table);
  const std::vector<float> position_rows = normal(kTable * kWidth, 1, 9);
  for (const int64_t rows : {1, 33}) {
    for (const bool learned : {false, true}) {
      const SingleSequenceBatch batch(rows);
      std::vector<float> x(rows * kWidth);
      backend::Embed op{
          .table = {format, table.data(), 1, kTable, kWidth}, .scale = 1.5f, .x = x.data()};
      if (learned)
        op.positions = {quant::Format::f32, std::as_bytes(std::span(position_rows)).data(), 1,
                        kTable, kWidth};
      ops.embed(batch.batch, op);
      std::vector<double> exact, tolerance;
      for (int64_t i = 0; i < rows * kWidth; ++i) {
        const int64_t row = i / kWidth, at = i % kWidth;
        const double token = 1.5 * values[batch.tokens[row] * kWidth + at];
        const double position = learned ? position_rows[batch.positions[row] * kWidth + at] : 0;
        exact.push_back(token + position);
        tolerance.push_back(0x1p-23 * (std::abs(token) + std::abs(position)) + 1e-45);
      }
      worst.add(fmt::format("{} rows{}", rows, learned ? ", learned positions" : ""),
                max_error_over_tolerance(x, exact, tolerance), 1);
    }
  }
}

/// Experts with constant outputs, so that the result shows the routing: the choice, the order of
/// ties, and the weights.
void check_route(const OpRunner& ops, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = kErrorOverTolerance;
  constexpr int64_t kHidden = 32;
  const std::vector<float> ones(kHidden, 1.0f);
  for (const auto& [experts, top_k] :
       {std::pair{1, 1}, {5, 3}, {12, 4}, {32, 4}, {128, 4}, {7, 7}}) {
    for (const bool equal : {false, true}) {
      const std::vector<float> router = normal(experts * kHidden, equal ? 0 : 0.3f, 10);
      const std::vector<float> zeros(experts * kHidden * kHidden), no_bias(experts * kHidden);
      std::vector<float> constants(experts * kHidden);
      for (int64_t i = 0; i < std::ssize(constants); ++i)
        constants[i] = static_cast<float>(1 + i / kHidden);
      const auto of = [](const std::vector<float>& values, int64_t slices, int64_t rows,
                         int64_t k) -> backend::Tensor {
        return {quant::Format::f32, std::as_bytes(std::span(values)).data(), slices, rows, k};
      };
      for (const int64_t rows : {1, 9, 33}) {
        const SingleSequenceBatch batch(rows);
        std::vector<float> x = normal(rows * kHidden, 1, 11);
        std::vector<double> exact, tolerance(x.size(), 2e-4);
        const backend::Norm norm{.weight = vector_of(ones)};
        for (int64_t row = 0; row < rows; ++row) {
          const std::span<const float> in(&x[row * kHidden], kHidden);
          const std::vector<double> h = reference::norm(norm, in);
          std::vector<std::pair<double, int>> order;  // best first; ties: lower expert first
          for (int e = 0; e < experts; ++e) {
            order.emplace_back(-std::inner_product(h.begin(), h.end(), &router[e * kHidden], 0.0),
                               e);
          }
          std::sort(order.begin(), order.end());
          double total = 0, out = 0;
          for (int s = 0; s < top_k; ++s) {
            const double weight = std::exp(order[0].first - order[s].first);
            total += weight;
            out += weight * (1 + order[s].second);
          }
          for (const float v : in) exact.push_back(v + out / total);
        }
        const backend::Linear flat{of(zeros, experts, kHidden, kHidden),
                                   of(no_bias, experts, 1, kHidden)};
        ops.experts(batch.batch, {.router = {.norm = norm,
                                             .linear = {of(router, 1, experts, kHidden), {}},
                                             .top_k = top_k},
                                  .gate = flat,
                                  .up = flat,
                                  .down = {of(zeros, experts, kHidden, kHidden),
                                           of(constants, experts, 1, kHidden)},
                                  .activation = {},
                                  .x = x.data()});
        worst.add(fmt::format("{} of {} experts, {} rows{}", top_k, experts, rows,
                              equal ? ", equal logits" : ""),
                  max_error_over_tolerance(x, exact, tolerance), 1);
      }
    }
  }
}

}  // namespace

void check_ops(const std::vector<KernelSet>& sets, std::vector<KernelCheckResult>& results,
               const OpRunner& ops) {
  using cpu::CpuKernels;
  const auto for_each_set = [&](const std::string& kernel, auto member, auto check) {
    for (const KernelSet& set : sets) {
      if (set.ops->*member)
        check(*set.ops,
              results.emplace_back(KernelCheckResult{.kernel = kernel, .target = set.target}));
    }
  };
  const auto with = [](auto check, auto argument) {
    return [=](const cpu::CpuKernels& kernels, KernelCheckResult& result) {
      check(argument, kernels, result);
    };
  };
  for_each_set("quantize activations to 16 bits", &CpuKernels::quantize_int16,
               check_quantize_int16);
  for_each_set("RMSNorm", &CpuKernels::norm, with(check_norm, backend::NormKind::rms));
  for_each_set("LayerNorm", &CpuKernels::norm, with(check_norm, backend::NormKind::layer));
  for_each_set("RoPE, halves", &CpuKernels::apply_rope,
               with(check_rotate, backend::RopeStyle::neox));
  for_each_set("RoPE, neighbours", &CpuKernels::apply_rope,
               with(check_rotate, backend::RopeStyle::interleaved));
  for_each_set("SwiGLU, clamped", &CpuKernels::activate,
               with(check_activate,
                    backend::Activation{backend::ActivationKind::clamped_swiglu, 1.702f, 7.0f}));
  for_each_set("SiLU", &CpuKernels::activate,
               with(check_activate, backend::Activation{backend::ActivationKind::silu}));
  for_each_set("GELU", &CpuKernels::activate,
               with(check_activate, backend::Activation{backend::ActivationKind::gelu}));
  for_each_set("GELU, tanh", &CpuKernels::activate,
               with(check_activate, backend::Activation{backend::ActivationKind::gelu_tanh}));
  for_each_set("add scaled", &CpuKernels::add_scaled, check_add_scaled);
  for (const quant::Format format :
       {quant::Format::f32, quant::Format::f16, quant::Format::bf16, quant::Format::q8_0}) {
    const std::string name = fmt::format("attention, {} cache", quant::traits(format).name);
    for_each_set(name, &CpuKernels::attention_tile, with(check_attend, format));
    if (format != quant::Format::f32)
      for_each_set(name + ", including cache rounding", &CpuKernels::attention_tile,
                   with(check_kv_format, format));
  }
  check_route(ops,
              results.emplace_back(KernelCheckResult{.kernel = "routing", .target = ops.target}));
  for (const quant::Format format : all_formats()) {
    check_embed(ops, format,
                results.emplace_back(KernelCheckResult{
                    .kernel = fmt::format("{} embedding", quant::traits(format).name),
                    .target = ops.target}));
  }
}

}  // namespace mxgpt::eval
