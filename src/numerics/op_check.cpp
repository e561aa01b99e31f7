// The part of `validate --kernels` about everything but matrix tiles: the kernels under the ops,
// and two ops whose work is in the backend itself.
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "numerics/attend_problem.h"
#include "numerics/kernel_check.h"
#include "numerics/matmul_problem.h"
#include "numerics/random_weights.h"

namespace mxgpt {
namespace {

std::vector<float> normal(int64_t n, float size, uint32_t seed) {
  Random random(seed);
  std::normal_distribution<float> distribution(0, size);
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

Tensor vector_of(const std::vector<float>& values) {
  return {Format::f32, std::as_bytes(std::span(values)).data(), 1, 1, std::ssize(values)};
}

/// Largest |error| of the results, each as a share of what it may be.
double worst_share(const std::vector<float>& out, const std::vector<double>& exact,
                   const std::vector<double>& allowed) {
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double share = std::abs(out[i] - exact[i]) / allowed[i];
    if (!(share <= worst)) worst = share;
  }
  return worst;
}

constexpr const char* kShare = "largest share of the allowed";

void check_quantize_q16(const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = "|error| / scale";
  for (const int64_t k : {32, 288, 2880}) {
    const std::vector<float> x = normal(k, 1, 1);
    std::vector<int16_t> q(k);
    std::vector<float> scale(k / 32), sum(k / 16);
    std::vector<int32_t> total(k / 16);
    kernels.quantize_q16(x.data(), k, q.data(), scale.data(), sum.data(), total.data(), nullptr);
    double most = 0;
    for (int64_t i = 0; i < k; ++i)
      most = std::max(
          most, std::abs(double{x[i]} - double{scale[i / 32]} * q[placed(i)]) / scale[i / 32]);
    for (int64_t half = 0; half < k / 16; ++half) {
      int expected = 0;
      for (int64_t i = half * 16; i < half * 16 + 16; ++i) expected += q[placed(i)];
      if (total[half] != expected || sum[half] != scale[half / 2] * static_cast<float>(expected))
        most = NAN;
    }
    // Half a step, and the roundings of x / scale, of up to 2^15 steps, in f32.
    worst.add(fmt::format("{} elements", k), most, 0.5 + 0x1p15 * 0x1p-22);
  }
  std::vector<float> bad(32, 1.0f);
  bad[31] = INFINITY;
  int16_t q[32];
  float scale, sum[2];
  int32_t total[2];
  kernels.quantize_q16(bad.data(), 32, q, &scale, sum, total, nullptr);
  if (!std::isnan(scale)) worst.add("an infinity", NAN, 0);
}

void check_norm(NormKind kind, const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
  for (const int64_t n : {1, 7, 255, 257, 288, 2880}) {
    for (const float size : {1e-12f, 1.0f, 1e6f}) {
      std::vector<float> x = normal(n, size, 2);
      for (float& v : x) v += size;
      const std::vector<float> weight = normal(n, 1, 3), bias = normal(n, 1, 4);
      Norm norm{.weight = vector_of(weight), .kind = kind};
      if (kind == NormKind::layer) norm.bias = vector_of(bias);
      std::vector<float> out(n);
      kernels.norm(norm, x.data(), n, out.data());
      const std::vector<double> exact = reference::norm(norm, x);
      std::vector<double> allowed;
      for (int64_t i = 0; i < n; ++i) {
        // Of LayerNorm's mean an ulp, seen through the scale, is about one of the largest results.
        const double shift = kind == NormKind::layer ? std::abs(weight[i]) + std::abs(bias[i]) : 0;
        allowed.push_back(1e-6 * (std::abs(exact[i]) + shift) + 1e-30);
      }
      worst.add(fmt::format("{} elements of size {}", n, size), worst_share(out, exact, allowed),
                1);
    }
  }
}

void check_rotate(RopePairs pairs, const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
  for (const int64_t d : {2, 6, 64, 80, 128}) {
    std::vector<float> head = normal(d, 1, 4), cos(d / 2), sin(d / 2);
    const std::vector<float> before = head;
    for (int64_t i = 0; i < d / 2; ++i) {
      cos[i] = std::cos(0.3f * static_cast<float>(i));
      sin[i] = std::sin(0.3f * static_cast<float>(i));
    }
    kernels.rotate(pairs, head.data(), cos.data(), sin.data(), d);
    worst.add(fmt::format("head of {}", d),
              worst_share(head, reference::rotate(pairs, before, cos.data(), sin.data()),
                          std::vector<double>(d, 1e-6)),
              1);
  }
}

void check_activate(const Activation& activation, const cpu::CpuKernels& kernels,
                    KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
  for (const int64_t n : {1, 5, 9, 288, 2880}) {
    for (const bool gated : {true, false}) {
      if (!gated && activation.kind == ActivationKind::clamped_swiglu) continue;
      std::vector<float> gate = normal(n, 4, 5), up = normal(n, 4, 6);
      gate[0] = 100;
      if (n > 5) gate[5] = -60, gate[4] = 0;
      const std::vector<float> before = gate;
      kernels.activate(activation, gate.data(), gated ? up.data() : nullptr, n);
      std::vector<double> exact, allowed;
      for (int64_t i = 0; i < n; ++i) {
        const double u = gated ? up[i] : 1;
        exact.push_back(reference::activate(activation, before[i], u));
        // Where the curve goes to zero on the left, f32 loses relative accuracy; the error stays
        // small beside the gate.
        allowed.push_back((2e-6 * std::abs(before[i]) + 1e-12) * (std::abs(u) + 1));
      }
      worst.add(fmt::format("{} elements{}", n, gated ? "" : ", no gate"),
                worst_share(gate, exact, allowed), 1);
    }
  }
}

void check_add_scaled(const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
  for (const int64_t n : {1, 9, 2880}) {
    const std::vector<float> x = normal(n, 1, 7);
    std::vector<float> y = normal(n, 1, 8);
    std::vector<double> exact, allowed;
    for (int64_t i = 0; i < n; ++i) {
      exact.push_back(y[i] + double{x[i]} * 0.3f);
      allowed.push_back(0x1p-23 * (std::abs(y[i]) + std::abs(x[i])));
    }
    kernels.add_scaled(x.data(), 0.3f, n, y.data());
    worst.add(fmt::format("{} elements", n), worst_share(y, exact, allowed), 1);
  }
}

void check_attend(Format format, const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = "largest |error|";
  for (const AttendCase& c : kAttendCases) {
    if (c.head_dim % traits(format).block_elements) continue;
    const AttendProblem problem(format, c);
    const std::vector<double> exact = problem.exact();
    const std::vector<float> out = problem.attend(kernels);
    worst.add(c.name, worst_share(out, exact, std::vector<double>(out.size(), 1)), 3e-6);
  }
}

/// What the cache's format costs. NUMERICS: of an op that reduces precision.
void check_kv_format(Format format, const cpu::CpuKernels& kernels, KernelResult& result) {
  Worst worst(result);
  result.measure = "NMSE";
  for (const AttendCase& c : kAttendCases) {
    if (c.head_dim % traits(format).block_elements) continue;
    const AttendProblem problem(format, c);
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

/// Rows of one sequence.
struct Rows {
  std::vector<int32_t> tokens, positions, sequences;
  Batch batch;

  explicit Rows(int64_t n) : tokens(n), positions(n), sequences(n) {
    std::iota(tokens.begin(), tokens.end(), 1);
    std::iota(positions.begin(), positions.end(), 3);
    batch = {.tokens = tokens, .positions = positions, .sequences = sequences};
  }
};

/// x = scale · row of the token, plus that of the position.
void check_embed(const HostOps& ops, Format format, KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
  constexpr int64_t kWidth = 768, kTable = 40;
  Random random(5);
  const std::vector<std::byte> table = random_blocks(format, kTable * kWidth, 1e-3f, 1e3f, random);
  const std::vector<float> values = dequantized(format, table);
  const std::vector<float> places = normal(kTable * kWidth, 1, 9);
  for (const int64_t rows : {1, 33}) {
    for (const bool learned : {false, true}) {
      const Rows batch(rows);
      std::vector<float> x(rows * kWidth);
      Embed op{.table = {format, table.data(), 1, kTable, kWidth}, .scale = 1.5f, .x = x.data()};
      if (learned)
        op.positions = {Format::f32, std::as_bytes(std::span(places)).data(), 1, kTable, kWidth};
      ops.embed(batch.batch, op);
      std::vector<double> exact, allowed;
      for (int64_t i = 0; i < rows * kWidth; ++i) {
        const int64_t row = i / kWidth, at = i % kWidth;
        const double token = 1.5 * values[batch.tokens[row] * kWidth + at];
        const double place = learned ? places[batch.positions[row] * kWidth + at] : 0;
        exact.push_back(token + place);
        allowed.push_back(0x1p-23 * (std::abs(token) + std::abs(place)) + 1e-45);
      }
      worst.add(fmt::format("{} rows{}", rows, learned ? ", learned positions" : ""),
                worst_share(x, exact, allowed), 1);
    }
  }
}

/// Experts that give constants, so that what comes out is the routing: the choice, its order among
/// equals, and the weights.
void check_route(const HostOps& ops, KernelResult& result) {
  Worst worst(result);
  result.measure = kShare;
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
                         int64_t k) -> Tensor {
        return {Format::f32, std::as_bytes(std::span(values)).data(), slices, rows, k};
      };
      for (const int64_t rows : {1, 9, 33}) {
        const Rows batch(rows);
        std::vector<float> x = normal(rows * kHidden, 1, 11);
        std::vector<double> exact, allowed(x.size(), 2e-4);
        const Norm norm{.weight = vector_of(ones)};
        for (int64_t row = 0; row < rows; ++row) {
          const std::span<const float> in(&x[row * kHidden], kHidden);
          const std::vector<double> h = reference::norm(norm, in);
          std::vector<std::pair<double, int>> order;  // best first; of equals the lower expert
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
        const Linear flat{of(zeros, experts, kHidden, kHidden), of(no_bias, experts, 1, kHidden)};
        ops.experts(batch.batch, {.norm = norm,
                                  .router = {of(router, 1, experts, kHidden), {}},
                                  .gate = flat,
                                  .up = flat,
                                  .down = {of(zeros, experts, kHidden, kHidden),
                                           of(constants, experts, 1, kHidden)},
                                  .top_k = top_k,
                                  .activation = {},
                                  .x = x.data()});
        worst.add(fmt::format("{} of {} experts, {} rows{}", top_k, experts, rows,
                              equal ? ", equal logits" : ""),
                  worst_share(x, exact, allowed), 1);
      }
    }
  }
}

}  // namespace

void check_ops(const std::vector<KernelSet>& sets, std::vector<KernelResult>& results,
               const HostOps& ops) {
  using cpu::CpuKernels;
  const auto for_each_set = [&](const std::string& kernel, auto member, auto check) {
    for (const KernelSet& set : sets) {
      if (set.ops->*member)
        check(*set.ops, results.emplace_back(KernelResult{.kernel = kernel, .target = set.target}));
    }
  };
  const auto with = [](auto check, auto argument) {
    return [=](const cpu::CpuKernels& kernels, KernelResult& result) {
      check(argument, kernels, result);
    };
  };
  for_each_set("quantize activations to 16 bits", &CpuKernels::quantize_q16, check_quantize_q16);
  for_each_set("RMSNorm", &CpuKernels::norm, with(check_norm, NormKind::rms));
  for_each_set("LayerNorm", &CpuKernels::norm, with(check_norm, NormKind::layer));
  for_each_set("RoPE, halves", &CpuKernels::rotate, with(check_rotate, RopePairs::halves));
  for_each_set("RoPE, neighbours", &CpuKernels::rotate, with(check_rotate, RopePairs::neighbours));
  for_each_set("SwiGLU, clamped", &CpuKernels::activate,
               with(check_activate, Activation{ActivationKind::clamped_swiglu, 1.702f, 7.0f}));
  for_each_set("SiLU", &CpuKernels::activate,
               with(check_activate, Activation{ActivationKind::silu}));
  for_each_set("GELU", &CpuKernels::activate,
               with(check_activate, Activation{ActivationKind::gelu}));
  for_each_set("GELU, tanh", &CpuKernels::activate,
               with(check_activate, Activation{ActivationKind::gelu_tanh}));
  for_each_set("add scaled", &CpuKernels::add_scaled, check_add_scaled);
  for (const Format format : {Format::f32, Format::f16, Format::bf16, Format::q8_0}) {
    const std::string name = fmt::format("attention, {} cache", traits(format).name);
    for_each_set(name, &CpuKernels::attend, with(check_attend, format));
    if (format != Format::f32)
      for_each_set(name + ", with its rounding", &CpuKernels::attend,
                   with(check_kv_format, format));
  }
  check_route(ops, results.emplace_back(KernelResult{.kernel = "routing", .target = ops.target}));
  for (const Format format : all_formats()) {
    check_embed(
        ops, format,
        results.emplace_back(KernelResult{
            .kernel = fmt::format("{} embedding", traits(format).name), .target = ops.target}));
  }
}

}  // namespace mxgpt
