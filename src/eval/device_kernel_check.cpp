// Checks of a device's kernels: the same as for the CPU, and attention through the backend's own KV
// cache.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <random>

#include "backend/cuda/generic/kernels.h"
#include "eval/device_scratch.h"
#include "eval/kernel_check.h"
#include "eval/random_weights.h"
#include "eval/reference_ops.h"

namespace mxgpt::eval {
namespace {

template <int kFormat, bool kMany>
void matmul(const kernels::GemmArgs& p) {
  const quant::Format format = static_cast<quant::Format>(kFormat);
  int32_t rows_of_x = static_cast<int32_t>(p.tokens);
  for (int64_t t = 0; p.row_indices && t < p.tokens; ++t)
    rows_of_x = std::max(rows_of_x, p.row_indices[t] + 1);
  DeviceScratch device;
  cuda::GemmParams tile{
      .weights = device.upload(std::span(p.weights, static_cast<size_t>(p.rows * p.row_bytes))),
      .row_bytes = p.row_bytes,
      .rows = static_cast<int>(p.rows),
      .k = static_cast<int>(p.k),
      .x = device.upload(std::span(p.x, static_cast<size_t>(rows_of_x * p.k))),
      .row_indices = p.row_indices
                         ? device.upload(std::span(p.row_indices, static_cast<size_t>(p.tokens)))
                         : nullptr,
      .max_tokens = static_cast<int>(p.tokens),
      .out = device.allocate<float>(p.tokens * p.rows),
      .accum_type = p.accum_type};
  const cuda::FormatKernels& kernels = cuda::format_kernels(format);
  (kMany ? kernels.gemm : kernels.gemv)(tile, device.stream());
  const std::vector<float> out = device.download<float>(tile.out, p.tokens * p.rows);
  for (int64_t t = 0; t < p.tokens; ++t)
    std::copy_n(&out[t * p.rows], p.rows, p.out + t * p.out_stride);
}

template <bool kMany, int... kFormats>
constexpr std::array<kernels::GemmKernels, quant::kFormatCount> matmuls(
    std::integer_sequence<int, kFormats...>) {
  return {kernels::GemmKernels{.matmul_f32 = matmul<kFormats, kMany>, .matmul_int16 = nullptr}...};
}
using AllFormats = std::make_integer_sequence<int, quant::kFormatCount>;

void norm(const backend::Norm& norm, const float* x, int64_t n, float* out) {
  DeviceScratch device;
  auto* result = device.allocate<float>(n);
  cuda::norm_rows({.norm = device.upload(norm),
                   .x = device.upload(std::span(x, static_cast<size_t>(n))),
                   .rows = 1,
                   .out = result},
                  device.stream());
  device.download(result, std::span(out, static_cast<size_t>(n)));
}

void rotate(backend::RopeStyle pairs, float* head, const float* cos, const float* sin, int64_t d) {
  DeviceScratch device;
  auto* on_device = device.upload(std::span<const float>(head, static_cast<size_t>(d)));
  cuda::qk_norm_rope_store_kv({.q = on_device,
                               .rows = 1,
                               .heads = 1,
                               .kv_heads = 0,
                               .head_dim = static_cast<int>(d),
                               .rope_style = pairs,
                               .cos = device.upload(std::span(cos, static_cast<size_t>(d / 2))),
                               .sin = device.upload(std::span(sin, static_cast<size_t>(d / 2))),
                               .kv = {.format = quant::Format::f32}},
                              device.stream());
  device.download(on_device, std::span(head, static_cast<size_t>(d)));
}

void activate(const backend::Activation& activation, float* gate, const float* up, int64_t n) {
  DeviceScratch device;
  const auto size = static_cast<size_t>(n);
  auto* on_device = device.upload(std::span<const float>(gate, size));
  cuda::activate(activation, on_device, up ? device.upload(std::span(up, size)) : nullptr, n,
                 device.stream());
  device.download(on_device, std::span(gate, size));
}

constexpr cpu::CpuKernels kOps{.norm = norm, .apply_rope = rotate, .activate = activate};

OpRunner device_op_runner() {
  return {.target = "cuda",
          .embed =
              [](const backend::Batch& batch, const backend::Embed& host_op) {
                DeviceScratch device;
                const int64_t rows = batch.rows(), hidden = host_op.table.k;
                DeviceBackend fixture({.rows = rows,
                                       .sequences = 1,
                                       .context = host_op.positions ? host_op.positions.rows : 64,
                                       .vocabulary = host_op.table.rows,
                                       .hidden = hidden,
                                       .max_linear_width = hidden,
                                       .heads = 1,
                                       .head_dim = 1});
                backend::Embed op = host_op;
                op.table = device.upload(host_op.table);
                op.positions = device.upload(host_op.positions);
                op.x = device.allocate<float>(rows * hidden);
                fixture.begin_step(batch);
                fixture.backend->embed(op);
                fixture.backend->step().stream().synchronize();
                device.download(op.x, std::span(host_op.x, static_cast<size_t>(rows * hidden)));
              },
          .experts =
              [](const backend::Batch& batch, const backend::MoeBlock& host_op) {
                DeviceScratch device;
                const int64_t hidden = host_op.router.norm.weight.k;
                const auto size = static_cast<size_t>(batch.rows() * hidden);
                DeviceBackend fixture({.rows = batch.rows(),
                                       .sequences = 1,
                                       .context = 64,
                                       .vocabulary = 1 << 20,
                                       .hidden = hidden,
                                       .max_linear_width = hidden,
                                       .intermediate = host_op.gate.weight.rows,
                                       .experts = host_op.router.linear.weight.rows,
                                       .top_k = host_op.router.top_k,
                                       .heads = 1,
                                       .head_dim = 1});
                backend::MoeBlock op = host_op;
                op.router.norm = device.upload(host_op.router.norm);
                op.router.linear = device.upload(host_op.router.linear);
                op.gate = device.upload(host_op.gate);
                op.up = device.upload(host_op.up);
                op.down = device.upload(host_op.down);
                op.x = device.upload(std::span<const float>(host_op.x, size));
                fixture.begin_step(batch);
                fixture.backend->moe_block(op);
                fixture.backend->step().stream().synchronize();
                device.download(op.x, std::span(host_op.x, size));
              }};
}

/// Embedding lookup of random bit patterns, bit for bit against the CPU.
void check_lookup(quant::Format format, KernelCheckResult& result) {
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
  DeviceScratch device;
  auto* out = device.allocate<float>(kRows * k);
  cuda::format_kernels(format).embed({.table = device.upload(table),
                                      .row_bytes = t.row_bytes(k),
                                      .k = static_cast<int>(k),
                                      .ids = device.upload(ids),
                                      .count = kRows,
                                      .out = out},
                                     device.stream());
  const std::vector<float> values = device.download<float>(out, kRows * k);
  int64_t mismatches = 0;
  for (int64_t i = 0; i < kRows * k; ++i) {
    const float a = values[i], b = exact[(kRows - 1 - i / k) * k + i % k];
    mismatches += std::isnan(b) ? !std::isnan(a) : a != b;
  }
  worst.add(fmt::format("{} rows of {}, random bits", kRows, k), static_cast<double>(mismatches),
            0);
}

void check_rope_cos_sin(KernelCheckResult& result) {
  WorstCase worst(result);
  result.measure = "max |error|";
  constexpr int kHalf = 32;
  std::vector<float> inverse(kHalf);
  for (int i = 0; i < kHalf; ++i) inverse[i] = std::pow(150000.0f, -i / 32.0f);
  const std::vector<int32_t> positions{0, 1, 127, 4095, 4097, 131071};
  const auto rows = std::ssize(positions);
  DeviceScratch device;
  auto* cos = device.allocate<float>(rows * kHalf);
  auto* sin = device.allocate<float>(rows * kHalf);
  cuda::compute_rope_cos_sin({.inv_freq = device.upload(inverse),
                              .magnitude = 1.25f,
                              .half = kHalf,
                              .positions = device.upload(positions),
                              .rows = static_cast<int>(rows),
                              .cos = cos,
                              .sin = sin},
                             device.stream());
  const auto cosines = device.download<float>(cos, rows * kHalf);
  const auto sines = device.download<float>(sin, rows * kHalf);
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

/// Stores keys and values through the backend, then checks attention of the last row: alone (split
/// over blocks) and in a batch (one block). Both must be bit-equal.
void check_attend(quant::Format format, KernelCheckResult& result) {
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

    DeviceScratch device;
    const int64_t pages = count / backend::kPageTokens + 1;
    std::vector<int32_t> table, positions(count), slots(count, 0);
    for (int64_t i = 0; i < pages; ++i) table.push_back(static_cast<int32_t>(pages - i));
    for (int64_t i = 0; i < count; ++i) positions[i] = static_cast<int32_t>(i);
    const int64_t page_bytes = c.kv_heads * backend::kPageTokens * t.row_bytes(d);
    const backend::KvLayer kv{backend::KvGroup::full, format,
                              device.allocate<std::byte>((pages + 1) * page_bytes),
                              device.allocate<std::byte>((pages + 1) * page_bytes)};
    const int32_t* device_table = device.upload(table);
    cuda::qk_norm_rope_store_kv({.k = device.upload(keys),
                                 .v = device.upload(values),
                                 .rows = static_cast<int>(count),
                                 .heads = 0,
                                 .kv_heads = c.kv_heads,
                                 .head_dim = c.head_dim,
                                 .kv = kv,
                                 .positions = device.upload(positions),
                                 .slots = device.upload(slots),
                                 .table = device_table,
                                 .stride = pages},
                                device.stream());

    const std::vector<float> device_sinks = sinks;
    const auto run = [&](int rows, int64_t capacity) {
      std::vector<float> all;
      for (int row = 0; row < rows; ++row) all.insert(all.end(), q.begin(), q.end());
      const std::vector<int32_t> last(rows, static_cast<int32_t>(c.last)), slot(rows, 0);
      backend::Attention op{.q = device.upload(all),
                            .heads = static_cast<int>(heads),
                            .kv_heads = c.kv_heads,
                            .head_dim = c.head_dim,
                            .scale = 1 / std::sqrt(static_cast<float>(d)),
                            .kv = kv,
                            .window = c.window,
                            .out = device.allocate<float>(rows * heads * d)};
      if (c.sinks)
        op.sinks = {quant::Format::f32,
                    reinterpret_cast<const std::byte*>(device.upload(device_sinks)), 1, 1, heads};
      cuda::paged_attention({.op = op,
                             .rows = rows,
                             .positions = device.upload(last),
                             .slots = device.upload(slot),
                             .table = device_table,
                             .stride = pages,
                             .splits = {.max_score = device.allocate<float>(capacity),
                                        .sum_exp = device.allocate<float>(capacity),
                                        .out = device.allocate<float>(capacity * d),
                                        .capacity = capacity}},
                            c.last, device.stream());
      return device.download<float>(op.out, rows * heads * d);
    };
    const std::vector<float> alone = run(1, heads * 64), in_batch = run(3, 0);
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

std::vector<KernelCheckResult> check_device_kernels() {
  cuda::device_info();  // throws where there is none
  static constexpr auto kGemv = matmuls<false>(AllFormats()), kGemm = matmuls<true>(AllFormats());
  const auto set = [](const char* target,
                      const std::array<kernels::GemmKernels, quant::kFormatCount>& kernels) {
    return KernelSet{.target = target,
                     .formats = [&kernels](quant::Format format) -> const kernels::GemmKernels& {
                       return kernels[static_cast<int>(format)];
                     },
                     .ops = &kOps};
  };
  const KernelSet gemv = set("cuda gemv", kGemv), gemm = set("cuda gemm", kGemm);
  std::vector<KernelCheckResult> results;
  check_formats({gemv, gemm}, results);
  check_ops({gemv}, results, device_op_runner());
  const auto add_result = [&](std::string kernel) -> KernelCheckResult& {
    return results.emplace_back(KernelCheckResult{.kernel = std::move(kernel), .target = "cuda"});
  };
  for (const quant::Format format : all_formats())
    check_lookup(format, add_result(fmt::format("{} lookup", quant::traits(format).name)));
  check_rope_cos_sin(add_result("RoPE cos/sin"));
  for (const quant::Format format :
       {quant::Format::f32, quant::Format::f16, quant::Format::bf16, quant::Format::q8_0})
    check_attend(format,
                 add_result(fmt::format("attention, {} cache", quant::traits(format).name)));
  return results;
}

}  // namespace mxgpt::eval
