#include "backend/cuda/host_kernels.h"

#include <array>
#include <memory>
#include <numeric>
#include <span>

#include "backend/cuda/backend.h"
#include "backend/cuda/generic/kernels.h"

namespace mxgpt::cuda {

namespace {

/// Device memory for the duration of one call.
class DeviceScratch {
 public:
  /// Copies `values` to the device.
  template <class T>
  T* upload(std::span<const T> values) {
    T* device = allocate<T>(std::ssize(values));
    stream_.copy(device, values.data(), static_cast<int64_t>(values.size_bytes()));
    stream_.synchronize();
    return device;
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    return upload(std::span<const T>(values));
  }
  backend::Tensor upload(const backend::Tensor& host) {
    if (!host) return {};
    backend::Tensor device = host;
    const int64_t bytes = std::max<int64_t>(1, host.rows) * host.num_experts * host.row_bytes();
    device.data = upload(std::span(host.data, static_cast<size_t>(bytes)));
    return device;
  }
  backend::Linear upload(const backend::Linear& host) {
    return {upload(host.weight), upload(host.bias)};
  }
  backend::Norm upload(const backend::Norm& host) {
    backend::Norm device = host;
    device.weight = upload(host.weight);
    device.bias = upload(host.bias);
    return device;
  }

  /// Allocates memory with all bits set (NaN), so that missing writes show.
  template <class T>
  T* allocate(int64_t count) {
    const auto bytes = static_cast<int64_t>(count * sizeof(T));
    const auto& memory =
        buffers_.emplace_back(std::make_unique<Memory>(Memory::Kind::device, bytes));
    const std::vector<std::byte> ones(bytes, std::byte{0xff});
    stream_.copy(memory->data(), ones.data(), bytes);
    stream_.synchronize();
    return reinterpret_cast<T*>(memory->data());
  }

  template <class T>
  void download(const T* device, std::span<T> out) {
    stream_.copy(out.data(), device, static_cast<int64_t>(out.size_bytes()));
    stream_.synchronize();
  }
  template <class T>
  std::vector<T> download(const T* device, int64_t count) {
    std::vector<T> values(count);
    download(device, std::span(values));
    return values;
  }

  CudaStream stream() const { return stream_.get(); }

 private:
  Stream stream_;
  std::vector<std::unique_ptr<Memory>> buffers_;
};

/// A generic backend and the memory that it works in.
class DeviceBackend {
 public:
  explicit DeviceBackend(const backend::MaxShapes& max_shapes)
      : memory_(Memory::Kind::device, bytes(max_shapes)),
        arena_(memory_.data()),
        backend(create_generic_backend(max_shapes, arena_)) {}

  void begin_step(const backend::Batch& batch) {
    backend->begin_step(batch);
    backend->step().upload();
  }

 private:
  static int64_t bytes(const backend::MaxShapes& max_shapes) {
    DeviceArena arena;
    measure_generic_backend(max_shapes, arena);
    return arena.used();
  }

  Memory memory_;
  DeviceArena arena_;

 public:
  std::unique_ptr<CudaBackend> backend;
};

template <int kFormat, bool kMany>
void matmul(const kernels::GemmArgs& p) {
  const quant::Format format = static_cast<quant::Format>(kFormat);
  int32_t rows_of_x = static_cast<int32_t>(p.tokens);
  for (int64_t t = 0; p.row_indices && t < p.tokens; ++t)
    rows_of_x = std::max(rows_of_x, p.row_indices[t] + 1);
  DeviceScratch device;
  GemmParams tile{
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
  const FormatKernels& kernels = format_kernels(format);
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
  norm_rows({.norm = device.upload(norm),
             .x = device.upload(std::span(x, static_cast<size_t>(n))),
             .rows = 1,
             .out = result},
            device.stream());
  device.download(result, std::span(out, static_cast<size_t>(n)));
}

void rotate(backend::RopeStyle pairs, float* head, const float* cos, const float* sin, int64_t d) {
  DeviceScratch device;
  auto* on_device = device.upload(std::span<const float>(head, static_cast<size_t>(d)));
  qk_norm_rope_store_kv({.q = on_device,
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

std::vector<float> lookup(quant::Format format, std::span<const std::byte> table, int64_t k,
                          std::span<const int32_t> ids) {
  DeviceScratch device;
  const auto count = std::ssize(ids);
  auto* out = device.allocate<float>(count * k);
  format_kernels(format).embed({.table = device.upload(table),
                                .row_bytes = quant::traits(format).row_bytes(k),
                                .k = static_cast<int>(k),
                                .ids = device.upload(ids),
                                .count = static_cast<int>(count),
                                .out = out},
                               device.stream());
  return device.download<float>(out, count * k);
}

std::pair<std::vector<float>, std::vector<float>> rope_cos_sin(std::span<const float> inv_freq,
                                                               float magnitude,
                                                               std::span<const int32_t> positions) {
  DeviceScratch device;
  const int64_t size = std::ssize(positions) * std::ssize(inv_freq);
  auto* cos = device.allocate<float>(size);
  auto* sin = device.allocate<float>(size);
  compute_rope_cos_sin({.inv_freq = device.upload(inv_freq),
                        .magnitude = magnitude,
                        .half = static_cast<int>(inv_freq.size()),
                        .positions = device.upload(positions),
                        .rows = static_cast<int>(positions.size()),
                        .cos = cos,
                        .sin = sin},
                       device.stream());
  return {device.download<float>(cos, size), device.download<float>(sin, size)};
}

std::vector<float> attention(const backend::CachedAttention& p) {
  DeviceScratch device;
  const int64_t count = p.last + 1, pages = count / backend::kPageTokens + 1;
  std::vector<int32_t> table, positions(count);
  for (int64_t i = 0; i < pages; ++i) table.push_back(static_cast<int32_t>(pages - i));
  std::iota(positions.begin(), positions.end(), 0);
  const int64_t page_bytes =
      p.kv_heads * backend::kPageTokens * quant::traits(p.format).row_bytes(p.head_dim);
  const backend::KvLayer kv{backend::KvGroup::full, p.format,
                            device.allocate<std::byte>((pages + 1) * page_bytes),
                            device.allocate<std::byte>((pages + 1) * page_bytes)};
  const int32_t* device_table = device.upload(table);
  qk_norm_rope_store_kv({.k = device.upload(p.keys),
                         .v = device.upload(p.values),
                         .rows = static_cast<int>(count),
                         .heads = 0,
                         .kv_heads = p.kv_heads,
                         .head_dim = p.head_dim,
                         .kv = kv,
                         .positions = device.upload(positions),
                         .slots = device.upload(std::vector<int32_t>(count, 0)),
                         .table = device_table,
                         .stride = pages},
                        device.stream());

  std::vector<float> q;
  for (int row = 0; row < p.rows; ++row) q.insert(q.end(), p.q.begin(), p.q.end());
  const int64_t size = int64_t{p.rows} * p.heads * p.head_dim;
  backend::Attention op{.q = device.upload(q),
                        .heads = p.heads,
                        .kv_heads = p.kv_heads,
                        .head_dim = p.head_dim,
                        .scale = p.scale,
                        .kv = kv,
                        .window = p.window,
                        .out = device.allocate<float>(size)};
  if (!p.sinks.empty()) {
    op.sinks = {quant::Format::f32, reinterpret_cast<const std::byte*>(device.upload(p.sinks)), 1,
                1, p.heads};
  }
  // A single row is split over blocks; in a batch, one block computes each row.
  const int64_t capacity = p.rows == 1 ? p.heads * 64 : 0;
  paged_attention(
      {.op = op,
       .rows = p.rows,
       .positions = device.upload(std::vector<int32_t>(p.rows, static_cast<int32_t>(p.last))),
       .slots = device.upload(std::vector<int32_t>(p.rows, 0)),
       .table = device_table,
       .stride = pages,
       .splits = {.max_score = device.allocate<float>(capacity),
                  .sum_exp = device.allocate<float>(capacity),
                  .out = device.allocate<float>(capacity * p.head_dim),
                  .capacity = capacity}},
      p.last, device.stream());
  return device.download<float>(op.out, size);
}

}  // namespace

backend::OpRunner op_runner() {
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
              },
          .lookup = lookup,
          .rope_cos_sin = rope_cos_sin,
          .attention = attention};
}

std::vector<backend::KernelSet> kernel_sets() {
  device_info();  // throws if there is none
  static constexpr auto kGemv = matmuls<false>(AllFormats()), kGemm = matmuls<true>(AllFormats());
  const auto set = [](const char* target,
                      const std::array<kernels::GemmKernels, quant::kFormatCount>& kernels,
                      const cpu::CpuKernels* ops) {
    return backend::KernelSet{
        .target = target,
        .formats = [&kernels](quant::Format format) -> const kernels::GemmKernels& {
          return kernels[static_cast<int>(format)];
        },
        .ops = ops};
  };
  static constexpr cpu::CpuKernels kNone{};
  return {set("cuda gemv", kGemv, &kOps), set("cuda gemm", kGemm, &kNone)};
}

}  // namespace mxgpt::cuda
