// `validate --kernels --device cuda`: the GPU's kernels through the same checks as the CPU's, and
// attention, whose cache is the backend's own, through a check that fills it by the backend.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <random>

#include "backend/cuda/kernels.h"
#include "numerics/kernel_check.h"
#include "numerics/on_device.h"
#include "numerics/random_weights.h"
#include "numerics/reference_ops.h"

namespace mxgpt {
namespace {

template <int kFormat, bool kMany>
void matmul(const MatmulTile& p) {
  const Format format = static_cast<Format>(kFormat);
  int32_t rows_of_x = static_cast<int32_t>(p.tokens);
  for (int64_t t = 0; p.x_rows && t < p.tokens; ++t)
    rows_of_x = std::max(rows_of_x, p.x_rows[t] + 1);
  OnDevice device;
  DeviceTile tile{
      .weights = device.put(std::span(p.weights, static_cast<size_t>(p.rows * p.row_bytes))),
      .row_bytes = p.row_bytes,
      .rows = static_cast<int>(p.rows),
      .k = static_cast<int>(p.k),
      .x = device.put(std::span(p.x, static_cast<size_t>(rows_of_x * p.k))),
      .x_rows = p.x_rows ? device.put(std::span(p.x_rows, static_cast<size_t>(p.tokens))) : nullptr,
      .tokens = static_cast<int>(p.tokens),
      .out = device.room<float>(p.tokens * p.rows),
      .accumulate = p.accumulate};
  const DeviceKernels& kernels = device_kernels(format);
  (kMany ? kernels.many : kernels.few)(tile, device.stream());
  const std::vector<float> out = device.get<float>(tile.out, p.tokens * p.rows);
  for (int64_t t = 0; t < p.tokens; ++t)
    std::copy_n(&out[t * p.rows], p.rows, p.out + t * p.out_stride);
}

template <bool kMany, int... kFormats>
constexpr std::array<Kernels, kFormatCount> matmuls(std::integer_sequence<int, kFormats...>) {
  return {Kernels{.matmul_f32 = matmul<kFormats, kMany>, .matmul_q16 = nullptr}...};
}
using AllFormats = std::make_integer_sequence<int, kFormatCount>;

void norm(const Norm& norm, const float* x, int64_t n, float* out) {
  OnDevice device;
  auto* result = device.room<float>(n);
  cuda::norm_rows({.norm = device.put(norm),
                   .x = device.put(std::span(x, static_cast<size_t>(n))),
                   .rows = 1,
                   .out = result},
                  device.stream());
  device.get(result, std::span(out, static_cast<size_t>(n)));
}

void rotate(RopePairs pairs, float* head, const float* cos, const float* sin, int64_t d) {
  OnDevice device;
  auto* on_device = device.put(std::span<const float>(head, static_cast<size_t>(d)));
  cuda::finish_heads({.q = on_device,
                      .rows = 1,
                      .heads = 1,
                      .kv_heads = 0,
                      .head_dim = static_cast<int>(d),
                      .pairs = pairs,
                      .cos = device.put(std::span(cos, static_cast<size_t>(d / 2))),
                      .sin = device.put(std::span(sin, static_cast<size_t>(d / 2))),
                      .kv = {.format = Format::f32}},
                     device.stream());
  device.get(on_device, std::span(head, static_cast<size_t>(d)));
}

void activate(const Activation& activation, float* gate, const float* up, int64_t n) {
  OnDevice device;
  const auto size = static_cast<size_t>(n);
  auto* on_device = device.put(std::span<const float>(gate, size));
  cuda::activate(activation, on_device, up ? device.put(std::span(up, size)) : nullptr, n,
                 device.stream());
  device.get(on_device, std::span(gate, size));
}

constexpr cpu::CpuKernels kOps{.norm = norm, .rotate = rotate, .activate = activate};

HostOps cuda_ops() {
  return {.target = "cuda",
          .embed =
              [](const Batch& batch, const Embed& host) {
                OnDevice device;
                const int64_t rows = batch.rows(), hidden = host.table.k;
                DeviceBackend made({.rows = rows,
                                    .sequences = 1,
                                    .context = host.positions ? host.positions.rows : 64,
                                    .vocabulary = host.table.rows,
                                    .hidden = hidden,
                                    .widest = hidden,
                                    .heads = 1,
                                    .head_dim = 1});
                Embed op = host;
                op.table = device.put(host.table);
                op.positions = device.put(host.positions);
                op.x = device.room<float>(rows * hidden);
                made.backend.begin(batch);
                made.backend.embed(op);
                made.backend.stream().wait();
                device.get(op.x, std::span(host.x, static_cast<size_t>(rows * hidden)));
              },
          .experts =
              [](const Batch& batch, const NormRouteExpertsResidual& host) {
                OnDevice device;
                const int64_t hidden = host.norm.weight.k;
                const auto size = static_cast<size_t>(batch.rows() * hidden);
                DeviceBackend made({.rows = batch.rows(),
                                    .sequences = 1,
                                    .context = 64,
                                    .vocabulary = 1 << 20,
                                    .hidden = hidden,
                                    .widest = hidden,
                                    .intermediate = host.gate.weight.rows,
                                    .experts = host.router.weight.rows,
                                    .top_k = host.top_k,
                                    .heads = 1,
                                    .head_dim = 1});
                NormRouteExpertsResidual op = host;
                op.norm = device.put(host.norm);
                op.router = device.put(host.router);
                op.gate = device.put(host.gate);
                op.up = device.put(host.up);
                op.down = device.put(host.down);
                op.x = device.put(std::span<const float>(host.x, size));
                made.backend.begin(batch);
                made.backend.norm_route_experts_residual(op);
                made.backend.stream().wait();
                device.get(op.x, std::span(host.x, size));
              }};
}

/// Every pattern of bits of a block as the CPU's oracle reads it, bit for bit.
void check_lookup(Format format, KernelResult& result) {
  Worst worst(result);
  result.measure = "values with other bits";
  const FormatTraits& t = traits(format);
  Random random(21);
  constexpr int64_t kRows = 33;
  const int64_t k = t.block_elements == 1 ? 7 : 3 * t.block_elements;
  std::vector<std::byte> table(kRows * t.row_bytes(k));
  for (auto& byte : table) byte = static_cast<std::byte>(random() & 0xff);
  const std::vector<float> exact = dequantized(format, table);
  std::vector<int32_t> ids(kRows);
  for (int32_t i = 0; i < kRows; ++i) ids[i] = kRows - 1 - i;
  OnDevice device;
  auto* out = device.room<float>(kRows * k);
  device_kernels(format).lookup({.table = device.put(table),
                                 .row_bytes = t.row_bytes(k),
                                 .k = static_cast<int>(k),
                                 .ids = device.put(ids),
                                 .count = kRows,
                                 .out = out},
                                device.stream());
  const std::vector<float> values = device.get<float>(out, kRows * k);
  int64_t other = 0;
  for (int64_t i = 0; i < kRows * k; ++i) {
    const float a = values[i], b = exact[(kRows - 1 - i / k) * k + i % k];
    other += std::isnan(b) ? !std::isnan(a) : a != b;
  }
  worst.add(fmt::format("{} rows of {}, random bits", kRows, k), static_cast<double>(other), 0);
}

void check_angles(KernelResult& result) {
  Worst worst(result);
  result.measure = "largest |error|";
  constexpr int kHalf = 32;
  std::vector<float> inverse(kHalf);
  for (int i = 0; i < kHalf; ++i) inverse[i] = std::pow(150000.0f, -i / 32.0f);
  const std::vector<int32_t> positions{0, 1, 127, 4095, 4097, 131071};
  const auto rows = std::ssize(positions);
  OnDevice device;
  auto* cos = device.room<float>(rows * kHalf);
  auto* sin = device.room<float>(rows * kHalf);
  cuda::angles({.inverse_frequency = device.put(inverse),
                .magnitude = 1.25f,
                .half = kHalf,
                .positions = device.put(positions),
                .rows = static_cast<int>(rows),
                .cos = cos,
                .sin = sin},
               device.stream());
  const auto cosines = device.get<float>(cos, rows * kHalf);
  const auto sines = device.get<float>(sin, rows * kHalf);
  for (int64_t row = 0; row < rows; ++row) {
    double most = 0;
    for (int i = 0; i < kHalf; ++i) {
      const float angle = static_cast<float>(positions[row]) * inverse[i];
      for (const double off : {cosines[row * kHalf + i] - 1.25 * std::cos(double{angle}),
                               sines[row * kHalf + i] - 1.25 * std::sin(double{angle})}) {
        if (!(std::abs(off) <= most)) most = std::abs(off);
      }
    }
    worst.add(fmt::format("position {}", positions[row]), most, 4e-7);
  }
}

struct AttendShape {
  const char* name;
  int kv_heads, group, head_dim;
  int64_t last, window;
  bool sinks;
};

constexpr AttendShape kAttendShapes[] = {
    {"first token", 2, 4, 64, 0, 0, true},
    {"first token, no sink", 2, 4, 64, 0, 0, false},
    {"page but one", 2, 8, 64, 30, 0, true},
    {"page and one", 2, 8, 64, 32, 0, true},
    {"window inside a page", 1, 2, 64, 40, 6, true},
    {"window over a page's edge", 2, 2, 64, 150, 128, true},
    {"window over a piece's edge", 8, 8, 64, 300, 128, true},
    {"whole piece", 2, 8, 64, 255, 0, true},
    {"piece and one", 2, 8, 64, 256, 0, true},
    {"odd head", 2, 3, 20, 77, 0, true},
    {"odd group", 1, 13, 96, 300, 0, false},
    {"head of two", 3, 1, 2, 40, 0, false},
    {"wide head", 1, 4, 256, 700, 0, true},
    {"widest head", 1, 2, 512, 270, 0, false},
    {"far", 2, 8, 64, 5000, 0, true},
};

/// Keys and values stored by the backend, then the attention of the last row: alone, where blocks
/// share its pieces, and among so many others that one block goes through all. Both bit-equal.
void check_attend(Format format, KernelResult& result) {
  Worst worst(result);
  result.measure = "largest |error|";
  const FormatTraits& t = traits(format);
  for (const AttendShape& c : kAttendShapes) {
    if (c.head_dim % t.block_elements) continue;
    const int64_t count = c.last + 1, d = c.head_dim, heads = c.kv_heads * c.group;
    Random random(7);
    const auto normal = [&](int64_t n, float size) {
      std::normal_distribution<float> distribution(0, size);
      std::vector<float> values(n);
      for (float& v : values) v = distribution(random);
      return values;
    };
    const auto kept = [&](const std::vector<float>& values) {
      std::vector<std::byte> blocks(t.row_bytes(std::ssize(values)));
      t.quantize(values.data(), std::ssize(values), nullptr, blocks.data());
      return dequantized(format, blocks);
    };
    const std::vector<float> keys = normal(count * c.kv_heads * d, 2);
    const std::vector<float> values = normal(count * c.kv_heads * d, 1);
    const std::vector<float> q = normal(heads * d, 1), sinks = normal(heads, 1);
    const std::vector<float> kept_keys = kept(keys), kept_values = kept(values);

    OnDevice device;
    const int64_t pages = count / kPageTokens + 1;
    std::vector<int32_t> table, positions(count), slots(count, 0);
    for (int64_t i = 0; i < pages; ++i) table.push_back(static_cast<int32_t>(pages - i));
    for (int64_t i = 0; i < count; ++i) positions[i] = static_cast<int32_t>(i);
    const int64_t page_bytes = c.kv_heads * kPageTokens * t.row_bytes(d);
    const KvLayer kv{KvGroup::full, format, device.room<std::byte>((pages + 1) * page_bytes),
                     device.room<std::byte>((pages + 1) * page_bytes)};
    const int32_t* device_table = device.put(table);
    cuda::finish_heads({.k = device.put(keys),
                        .v = device.put(values),
                        .rows = static_cast<int>(count),
                        .heads = 0,
                        .kv_heads = c.kv_heads,
                        .head_dim = c.head_dim,
                        .kv = kv,
                        .positions = device.put(positions),
                        .slots = device.put(slots),
                        .table = device_table,
                        .stride = pages},
                       device.stream());

    const std::vector<float> device_sinks = sinks;
    const auto run = [&](int rows, int64_t capacity) {
      std::vector<float> all;
      for (int row = 0; row < rows; ++row) all.insert(all.end(), q.begin(), q.end());
      const std::vector<int32_t> last(rows, static_cast<int32_t>(c.last)), slot(rows, 0);
      Attend op{.q = device.put(all),
                .heads = static_cast<int>(heads),
                .kv_heads = c.kv_heads,
                .head_dim = c.head_dim,
                .scale = 1 / std::sqrt(static_cast<float>(d)),
                .kv = kv,
                .window = c.window,
                .out = device.room<float>(rows * heads * d)};
      if (c.sinks)
        op.sinks = {Format::f32, reinterpret_cast<const std::byte*>(device.put(device_sinks)), 1, 1,
                    heads};
      cuda::attend_rows({.op = op,
                         .rows = rows,
                         .positions = device.put(last),
                         .slots = device.put(slot),
                         .table = device_table,
                         .stride = pages,
                         .parts = {.most = device.room<float>(capacity),
                                   .total = device.room<float>(capacity),
                                   .out = device.room<float>(capacity * d),
                                   .capacity = capacity}},
                        c.last, device.stream());
      return device.get<float>(op.out, rows * heads * d);
    };
    const std::vector<float> alone = run(1, heads * 64), among = run(3, 0);
    double most = 0;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv_head = h / c.group;
      const std::vector<double> exact =
          reference::attention({.q = &q[h * d],
                                .keys = &kept_keys[kv_head * d],
                                .values = &kept_values[kv_head * d],
                                .stride = c.kv_heads * d,
                                .head_dim = c.head_dim,
                                .scale = 1 / std::sqrt(static_cast<float>(d)),
                                .first = c.window ? std::max<int64_t>(0, c.last - c.window + 1) : 0,
                                .last = c.last,
                                .sink = c.sinks ? &sinks[h] : nullptr});
      for (int64_t i = 0; i < d; ++i) {
        const double off = std::abs(alone[h * d + i] - exact[i]);
        if (!(off <= most)) most = off;
        for (int row = 0; row < 3; ++row) {
          if (among[(row * heads + h) * d + i] != alone[h * d + i]) most = NAN;
        }
      }
    }
    worst.add(c.name, most, 3e-6);
  }
}

}  // namespace

std::vector<KernelResult> check_cuda_kernels() {
  cuda::device_info();  // throws where there is none
  static constexpr auto kFew = matmuls<false>(AllFormats()), kMany = matmuls<true>(AllFormats());
  const auto set = [](const char* target, const std::array<Kernels, kFormatCount>& kernels) {
    return KernelSet{.target = target,
                     .formats = [&kernels](Format format) -> const Kernels& {
                       return kernels[static_cast<int>(format)];
                     },
                     .ops = &kOps};
  };
  const KernelSet few = set("cuda few", kFew), many = set("cuda many", kMany);
  std::vector<KernelResult> results;
  check_formats({few, many}, results);
  check_ops({few}, results, cuda_ops());
  const auto begin = [&](std::string kernel) -> KernelResult& {
    return results.emplace_back(KernelResult{.kernel = std::move(kernel), .target = "cuda"});
  };
  for (const Format format : all_formats())
    check_lookup(format, begin(fmt::format("{} lookup", traits(format).name)));
  check_angles(begin("RoPE's angles"));
  for (const Format format : {Format::f32, Format::f16, Format::bf16, Format::q8_0})
    check_attend(format, begin(fmt::format("attention, {} cache", traits(format).name)));
  return results;
}

}  // namespace mxgpt
