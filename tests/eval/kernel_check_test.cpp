// Correct kernels pass the kernel check, and each kind of fault is found and named.
#include "eval/kernel_check.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "eval/random_weights.h"
#include "kernels/cpu/gemm.h"

namespace mxgpt::eval {
namespace {

std::string describe(const KernelCheckResult& r) {
  return fmt::format("{} on {}: {:.2e} of {:.2e} ({}) at {}", r.kernel, r.target, r.error, r.bound,
                     r.measure, r.worst_shape);
}

std::vector<KernelCheckResult> failures(const std::vector<KernelCheckResult>& results) {
  std::vector<KernelCheckResult> failed;
  for (const KernelCheckResult& r : results) {
    if (!r.passes()) failed.push_back(r);
  }
  return failed;
}

TEST(KernelCheck, EveryKernelHolds) {
  const std::vector<KernelSet> sets = kernel_sets();
  EXPECT_EQ(sets.size(), supported_isas().size());
  for (const KernelCheckResult& r : check_kernels(sets)) {
    EXPECT_TRUE(r.passes()) << describe(r);
    EXPECT_GT(r.num_shapes, 0) << r.kernel;
  }
}

using Matmul = void (*)(const kernels::GemmArgs&);

/// Names of the matrix kernels that fail when the MXFP4 f32 kernel is replaced.
std::vector<std::string> failures_with(Matmul matmul) {
  static kernels::GemmKernels faulty;
  faulty = kernels::gemm_kernels(quant::Format::mxfp4, kernels::Isa::scalar);
  faulty.matmul_f32 = matmul;
  const KernelSet set{.target = "faulty",
                      .formats = [](quant::Format format) -> const kernels::GemmKernels& {
                        return format == quant::Format::mxfp4
                                   ? faulty
                                   : kernels::gemm_kernels(format, kernels::Isa::scalar);
                      },
                      .ops = cpu::cpu_kernels(kernels::Isa::scalar)};
  std::vector<std::string> failed;
  std::vector<KernelCheckResult> results;
  check_formats({set}, results);
  for (const KernelCheckResult& r : failures(results)) {
    EXPECT_EQ(r.target, "faulty");
    failed.push_back(r.kernel + " at " + r.worst_shape);
  }
  return failed;
}

void sound(const kernels::GemmArgs& p) {
  kernels::gemm_kernels(quant::Format::mxfp4, kernels::Isa::scalar).matmul_f32(p);
}

TEST(KernelCheck, FindsAMissingLastBlock) {
  const auto failed = failures_with([](const kernels::GemmArgs& p) {
    std::vector<std::byte> weights(p.weights, p.weights + p.rows * p.row_bytes);
    const auto block = static_cast<int64_t>(quant::traits(quant::Format::mxfp4).block_bytes);
    for (int64_t r = 1; r <= p.rows; ++r)
      std::fill_n(weights.begin() + r * p.row_bytes - block, block, std::byte{0});
    kernels::GemmArgs less = p;
    less.weights = weights.data();
    sound(less);
  });
  ASSERT_EQ(failed.size(), 2u);  // f32 and f16 sums
  EXPECT_TRUE(failed[0].starts_with("MXFP4 matmul_f32 at ")) << failed[0];
}

TEST(KernelCheck, FindsRowsThatAreNotGathered) {
  const auto failed = failures_with([](const kernels::GemmArgs& p) {
    kernels::GemmArgs in_order = p;
    in_order.row_indices = nullptr;
    sound(in_order);
  });
  ASSERT_EQ(failed.size(), 2u);
  for (const std::string& kernel : failed) EXPECT_TRUE(kernel.ends_with("gathered rows")) << kernel;
}

TEST(KernelCheck, FindsAHiddenNan) {
  const auto failed = failures_with([](const kernels::GemmArgs& p) {
    sound(p);
    for (int64_t t = 0; t < p.tokens; ++t) {
      for (int64_t r = 0; r < p.rows; ++r) {
        float& out = p.out[t * p.out_stride + r];
        if (std::isnan(out)) out = 0;
      }
    }
  });
  ASSERT_EQ(failed.size(), 2u);
  for (const std::string& kernel : failed)
    EXPECT_TRUE(kernel.ends_with("NaN in one row")) << kernel;
}

/// An error of 0.5% in one row of many.
TEST(KernelCheck, FindsASmallErrorInOneRow) {
  const auto failed = failures_with([](const kernels::GemmArgs& p) {
    sound(p);
    if (p.rows > 32 && p.accum_type == kernels::AccumType::f32)
      for (int64_t t = 0; t < p.tokens; ++t) p.out[t * p.out_stride + 32] *= 1.005f;
  });
  EXPECT_EQ(failed, std::vector<std::string>{"MXFP4 matmul_f32 at 33 × 17 × 2880"});
}

TEST(KernelCheck, FindsASumThatIsNotAccumulatedInF16) {
  // Three bits, far coarser than f16.
  const auto failed = failures_with([](const kernels::GemmArgs& p) {
    sound(p);
    if (p.accum_type == kernels::AccumType::f32) return;
    for (int64_t i = 0; i < p.tokens * p.rows; ++i) {
      if (!std::isnormal(p.out[i])) continue;
      const int exponent = std::ilogb(p.out[i]) - 2;
      p.out[i] = std::ldexp(std::round(std::ldexp(p.out[i], -exponent)), exponent);
    }
  });
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_TRUE(failed[0].starts_with("MXFP4 matmul_f32, f16 sums")) << failed[0];
}

/// Names of the other kernels that fail when one is replaced.
std::vector<std::string> failures_with(const cpu::CpuKernels& kernels) {
  const KernelSet set{.target = "faulty", .formats = {}, .ops = &kernels};
  std::vector<KernelCheckResult> results;
  check_ops({set}, results);
  std::vector<std::string> failed;
  for (const KernelCheckResult& r : failures(results))
    failed.push_back(r.kernel + " at " + r.worst_shape);
  return failed;
}

const cpu::CpuKernels& scalar() {
  return *cpu::cpu_kernels(kernels::Isa::scalar);
}

TEST(KernelCheck, FindsSinksThatAreIgnored) {
  cpu::CpuKernels faulty = scalar();
  faulty.normalize_states = [](const cpu::AttentionStates& states, int queries, int group,
                               int head_dim, const float*, float* out, int64_t out_stride) {
    scalar().normalize_states(states, queries, group, head_dim, nullptr, out, out_stride);
  };
  const auto failed = failures_with(faulty);
  ASSERT_EQ(failed.size(), 7u);  // four cache formats, three of them also including rounding
  EXPECT_TRUE(failed[0].starts_with("attention, F32 cache")) << failed[0];
}

TEST(KernelCheck, FindsAWindowThatIsOffByOne) {
  cpu::CpuKernels faulty = scalar();
  faulty.attention_tile = [](const cpu::AttentionTile& p, const cpu::AttentionStates& states) {
    cpu::AttentionTile narrower = p;
    if (narrower.window > 1) --narrower.window;
    scalar().attention_tile(narrower, states);
  };
  EXPECT_EQ(failures_with(faulty).size(), 7u);
}

TEST(KernelCheck, FindsKvSplitsThatAreMergedWithoutTheirMaxima) {
  cpu::CpuKernels faulty = scalar();
  faulty.merge_states = [](const cpu::AttentionStates& later, int queries,
                           const cpu::AttentionStates& into) {
    for (int q = 0; q < queries; ++q) {
      into.sum_exp[q] += later.sum_exp[q];
      for (int64_t i = 0; i < into.stride; ++i)
        into.acc[q * into.stride + i] += later.acc[q * into.stride + i];
    }
  };
  EXPECT_EQ(failures_with(faulty).size(), 7u);
}

TEST(KernelCheck, FindsTheWrongRopeStyle) {
  cpu::CpuKernels faulty = scalar();
  faulty.apply_rope = [](backend::RopeStyle, float* head, const float* cos, const float* sin,
                         int64_t d) {
    scalar().apply_rope(backend::RopeStyle::neox, head, cos, sin, d);
  };
  const auto failed = failures_with(faulty);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_TRUE(failed[0].starts_with("RoPE, neighbours")) << failed[0];
}

TEST(KernelCheck, FindsAMissingTail) {
  cpu::CpuKernels faulty = scalar();
  faulty.activate = [](const backend::Activation& activation, float* gate, const float* up,
                       int64_t n) { scalar().activate(activation, gate, up, n / 8 * 8); };
  faulty.norm = [](const backend::Norm& norm, const float* x, int64_t n, float* out) {
    scalar().norm(norm, x, n, out);
    if (n % 8 && norm.kind == backend::NormKind::layer) out[n - 1] = x[n - 1];
  };
  EXPECT_EQ(failures_with(faulty).size(), 5u);  // four activations and LayerNorm
}

}  // namespace
}  // namespace mxgpt::eval
