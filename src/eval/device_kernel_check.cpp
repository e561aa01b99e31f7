// Checks of a device's kernels: the same as for the CPU, and of kernels that only devices have.
#include <fmt/format.h>

#include <cmath>
#include <random>

#include "eval/kernel_check.h"
#include "eval/random_weights.h"
#include "eval/reference_ops.h"

namespace mxgpt::eval {
namespace {

/// Embedding lookup of random bit patterns, bit for bit against the CPU.
void check_lookup(const OpRunner& ops, quant::Format format, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "values that differ";
  const quant::FormatTraits& t = quant::traits(format);
  Random random(21);
  constexpr int64_t kRows = 33;
  const int64_t k = t.block_elements == 1 ? 7 : 3 * t.block_elements;
  std::vector<std::byte> table(kRows * t.row_bytes(k));
  for (auto& byte : table) byte = static_cast<std::byte>(random() & 0xff);
  const std::vector<float> exact = dequantized(format, table);
  std::vector<int32_t> ids(kRows);
  for (int32_t i = 0; i < kRows; ++i) ids[i] = kRows - 1 - i;
  const std::vector<float> values = ops.lookup(format, table, k, ids);
  int64_t mismatches = 0;
  for (int64_t i = 0; i < kRows * k; ++i) {
    const float a = values[i], b = exact[(kRows - 1 - i / k) * k + i % k];
    mismatches += std::isnan(b) ? !std::isnan(a) : a != b;
  }
  worst.add(fmt::format("{} rows of {}, random bits", kRows, k), static_cast<double>(mismatches),
            0);
}

void check_rope_cos_sin(const OpRunner& ops, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "max |error|";
  constexpr int kHalf = 32;
  std::vector<float> inverse(kHalf);
  for (int i = 0; i < kHalf; ++i) inverse[i] = std::pow(150000.0f, -i / 32.0f);
  const std::vector<int32_t> positions{0, 1, 127, 4095, 4097, 131071};
  const auto rows = std::ssize(positions);
  const auto [cosines, sines] = ops.rope_cos_sin(inverse, 1.25f, positions);
  for (int64_t row = 0; row < rows; ++row) {
    double max_error = 0;
    for (int i = 0; i < kHalf; ++i) {
      const float angle = static_cast<float>(positions[row]) * inverse[i];
      for (const double deviation : {cosines[row * kHalf + i] - 1.25 * std::cos(double{angle}),
                                     sines[row * kHalf + i] - 1.25 * std::sin(double{angle})}) {
        if (!(std::abs(deviation) <= max_error)) max_error = std::abs(deviation);
      }
    }
    worst.add(fmt::format("position {}", positions[row]), max_error, 4e-7);
  }
}

struct AttentionShape {
  const char* name;
  int kv_heads, group, head_dim;
  int64_t last, window;
  bool sinks;
};

constexpr AttentionShape kAttentionShapes[] = {
    {"first token", 2, 4, 64, 0, 0, true},
    {"first token, no sink", 2, 4, 64, 0, 0, false},
    {"page minus one", 2, 8, 64, 30, 0, true},
    {"page plus one", 2, 8, 64, 32, 0, true},
    {"window inside a page", 1, 2, 64, 40, 6, true},
    {"window across pages", 2, 2, 64, 150, 128, true},
    {"window across KV splits", 8, 8, 64, 300, 128, true},
    {"whole KV split", 2, 8, 64, 255, 0, true},
    {"KV split plus one", 2, 8, 64, 256, 0, true},
    {"odd head", 2, 3, 20, 77, 0, true},
    {"odd group", 1, 13, 96, 300, 0, false},
    {"head of two", 3, 1, 2, 40, 0, false},
    {"wide head", 1, 4, 256, 700, 0, true},
    {"widest head", 1, 2, 512, 270, 0, false},
    {"long context", 2, 8, 64, 5000, 0, true},
};

/// Attention over a cache that the device filled, alone and in a batch. Both must be bit-equal.
void check_attention(const OpRunner& ops, quant::Format format, KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "max |error|";
  const quant::FormatTraits& t = quant::traits(format);
  for (const AttentionShape& c : kAttentionShapes) {
    if (c.head_dim % t.block_elements) continue;
    const int64_t count = c.last + 1, d = c.head_dim, heads = c.kv_heads * c.group;
    Random random(7);
    const auto normal = [&](int64_t n, float size) {
      std::normal_distribution<float> distribution(0, size);
      std::vector<float> values(n);
      for (float& v : values) v = distribution(random);
      return values;
    };
    const auto round_to_cache = [&](const std::vector<float>& values) {
      std::vector<std::byte> blocks(t.row_bytes(std::ssize(values)));
      t.quantize(values.data(), std::ssize(values), nullptr, blocks.data());
      return dequantized(format, blocks);
    };
    const std::vector<float> keys = normal(count * c.kv_heads * d, 2);
    const std::vector<float> values = normal(count * c.kv_heads * d, 1);
    const std::vector<float> q = normal(heads * d, 1), sinks = normal(heads, 1);
    const std::vector<float> rounded_keys = round_to_cache(keys),
                             rounded_values = round_to_cache(values);

    backend::CachedAttention call{.format = format,
                                  .heads = static_cast<int>(heads),
                                  .kv_heads = c.kv_heads,
                                  .head_dim = c.head_dim,
                                  .scale = 1 / std::sqrt(static_cast<float>(d)),
                                  .last = c.last,
                                  .window = c.window,
                                  .q = q,
                                  .keys = keys,
                                  .values = values,
                                  .sinks = {}};
    if (c.sinks) call.sinks = sinks;
    const std::vector<float> alone = ops.attention(call);
    call.rows = 3;
    const std::vector<float> in_batch = ops.attention(call);
    double max_error = 0;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv_head = h / c.group;
      const std::vector<double> exact =
          reference::attention({.q = &q[h * d],
                                .keys = &rounded_keys[kv_head * d],
                                .values = &rounded_values[kv_head * d],
                                .stride = c.kv_heads * d,
                                .head_dim = c.head_dim,
                                .scale = 1 / std::sqrt(static_cast<float>(d)),
                                .first = c.window ? std::max<int64_t>(0, c.last - c.window + 1) : 0,
                                .last = c.last,
                                .sink = c.sinks ? &sinks[h] : nullptr});
      for (int64_t i = 0; i < d; ++i) {
        const double deviation = std::abs(alone[h * d + i] - exact[i]);
        if (!(deviation <= max_error)) max_error = deviation;
        for (int row = 0; row < 3; ++row) {
          if (in_batch[(row * heads + h) * d + i] != alone[h * d + i]) max_error = NAN;
        }
      }
    }
    worst.add(c.name, max_error, 3e-6);
  }
}

}  // namespace

std::vector<KernelCheckResult> check_device_kernels(const std::vector<KernelSet>& sets,
                                                    const OpRunner& ops) {
  std::vector<KernelCheckResult> results;
  check_formats(sets, results);
  check_ops(sets, results, ops);
  const auto add_result = [&](std::string kernel) -> KernelCheckResult& {
    return results.emplace_back(
        KernelCheckResult{.kernel = std::move(kernel), .target = ops.target});
  };
  for (const quant::Format format : all_formats())
    check_lookup(ops, format, add_result(fmt::format("{} lookup", quant::traits(format).name)));
  check_rope_cos_sin(ops, add_result("RoPE cos/sin"));
  for (const quant::Format format :
       {quant::Format::f32, quant::Format::f16, quant::Format::bf16, quant::Format::q8_0}) {
    check_attention(ops, format,
                    add_result(fmt::format("attention, {} cache", quant::traits(format).name)));
  }
  return results;
}

}  // namespace mxgpt::eval
