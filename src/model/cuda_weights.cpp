#include "model/cuda_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "backend/cuda/layouts.h"
#include "backend/cuda/uploader.h"
#include "base/progress.h"

namespace mxgpt {

namespace {

/// f(spec, layer) for every tensor that the model has.
template <class F>
void for_each_tensor(const Model& model, F f) {
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      if (model.has(spec, layer)) f(spec, layer);
    }
  }
}

/// Whether the fast kernels know the layers of such a model.
bool has_fast_layers(const Config& c) {
  return cuda::target().fast && c.experts > 0 && c.experts <= 128 && c.top_k <= 4 &&
         c.head_dim == 64 && c.rope_pairs == RopePairs::halves &&
         c.activation.kind == ActivationKind::clamped_swiglu;
}

/// How the GPU holds a tensor.
struct Held {
  Format format;
  uint8_t layout = cuda::kAsInFile;
};

Held held(const Model& model, const TensorSpec& spec, int64_t layer) {
  if (spec.role == Role::vector) return {Format::f32};
  const Format format = model.stored_format(spec, layer);
  if (!has_fast_layers(model.config())) return {format};
  if (spec.role == Role::router) return {Format::f32};
  if (!cuda::can_be_tiles(format)) return {format};
  const auto is = [&](Tensor Layer::*member) {
    const auto* own = std::get_if<Tensor Layer::*>(&spec.member);
    return own && *own == member;
  };
  if (is(&Layer::q) || is(&Layer::k)) return {format, cuda::kTilesRopeHalves};
  const bool experts = spec.role == Role::expert && format == Format::mxfp4;
  if (experts || is(&Layer::v) || is(&Layer::o) || spec.role == Role::head)
    return {format, cuda::kTiles};
  return {format};
}

bool is_in_host(const Model& model, const TensorSpec& spec, int64_t layer, int64_t host_layers) {
  return spec.role == Role::expert && layer >= model.config().layers - host_layers;
}

/// The tensor, but for its data.
Tensor shaped(const Config& c, const TensorSpec& spec, const Held& how) {
  return {.format = how.format,
          .slices = dim(c, spec.slices),
          .rows = dim(c, spec.rows),
          .k = dim(c, spec.k),
          .layout = how.layout};
}

int64_t bytes_of(const Tensor& t) {
  return t.layout ? cuda::tiles_bytes(t) : t.slices * t.rows * t.row_bytes();
}

/// Copies blocks into a staging area on the GPU and from there into tiles, some rows at a time.
void upload_tiles(std::span<const std::byte> blocks, const Tensor& tensor, cuda::Uploader& uploader,
                  const cuda::Memory& staging) {
  // Tiles follow each other by rows, and heads are whole tiles.
  constexpr int64_t kRowsTogether = 64;
  const int64_t row = tensor.row_bytes(), slice = tensor.rows * row;
  const int64_t slices = std::max<int64_t>(1, std::min(tensor.slices, staging.bytes() / slice));
  const int64_t rows = slice <= staging.bytes()
                           ? tensor.rows
                           : staging.bytes() / row / kRowsTogether * kRowsTogether;
  for (int64_t s = 0; s < tensor.slices; s += slices) {
    for (int64_t r = 0; r < tensor.rows; r += rows) {
      Tensor part = tensor, before = tensor;
      part.slices = std::min(slices, tensor.slices - s);
      part.rows = std::min(rows, tensor.rows - r);
      before.slices = s;
      int64_t offset = cuda::tiles_bytes(before);
      before.slices = 1;
      before.rows = r;
      offset += cuda::tiles_bytes(before);
      part.data = tensor.data + offset;
      uploader.copy(blocks.subspan(s * slice + r * row, part.slices * part.rows * row),
                    staging.data());
      cuda::make_tiles(part, staging.data(), uploader.stream());
    }
  }
}

}  // namespace

CudaWeights::Bytes CudaWeights::bytes(const Model& model, int64_t host_layers) {
  cuda::Room device, host;
  for_each_tensor(model, [&](const TensorSpec& spec, int64_t layer) {
    (is_in_host(model, spec, layer, host_layers) ? host : device)
        .take<std::byte>(bytes_of(shaped(model.config(), spec, held(model, spec, layer))));
  });
  return {device.used(), host.used()};
}

CudaWeights::CudaWeights(const Model& model, int64_t host_layers)
    : host_layers_(host_layers),
      device_(cuda::Memory::Kind::device, bytes(model, host_layers).device),
      host_(cuda::Memory::Kind::pinned, bytes(model, host_layers).host) {
  const Config& config = model.config();
  weights_.layers.resize(config.layers);
  cuda::Room device(device_.data()), in_host(host_.data());
  cuda::Uploader uploader;
  constexpr int64_t kStaging = 64 << 20;
  const cuda::Memory staging(cuda::Memory::Kind::device, kStaging);
  const auto start = std::chrono::steady_clock::now();
  Progress progress("Loading", device_.bytes() + host_.bytes());
  for_each_tensor(model, [&](const TensorSpec& spec, int64_t layer) {
    const HostTensor host = model.load(spec, layer);
    Tensor& tensor = spec.in(weights_, layer);
    tensor = shaped(config, spec, held(model, spec, layer));
    const int64_t size = bytes_of(tensor);
    tensor.data =
        (is_in_host(model, spec, layer, host_layers) ? in_host : device).take<std::byte>(size);
    if (tensor.layout) {
      upload_tiles(host.bytes, tensor, uploader, staging);
    } else if (tensor.format != host.format) {
      std::vector<float> values(tensor.slices * tensor.rows * tensor.k);
      traits(host.format).dequantize(host.bytes.data(), std::ssize(values), values.data());
      uploader.copy(std::as_bytes(std::span(values)), const_cast<std::byte*>(tensor.data));
    } else {
      uploader.copy(host.bytes, const_cast<std::byte*>(tensor.data));
    }
    model.release(spec, layer);
    progress.advance(size);
  });
  uploader.finish();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  constexpr int64_t kLarge = 1 << 30;
  if (device_.bytes() >= kLarge) {
    const double gb = static_cast<double>(device_.bytes()) / 1e9;
    fmt::print(stderr, "Loaded {:.2f} GB onto {} in {:.2f} s, {:.1f} GB/s\n", gb,
               cuda::device_info().name, seconds.count(), gb / seconds.count());
  }
}

CudaPlan cuda_plan(const Model& model, const RunnerOptions& options) {
  CudaPlan plan = cuda_runner_plan(model.config(), options);
  const CudaWeights::Bytes weights = CudaWeights::bytes(model, options.host_expert_layers);
  plan.weights = weights.device;
  plan.host = weights.host;
  plan.context = cuda::target().context;
  return plan;
}

void require_vram(const CudaPlan& plan, const RunnerOptions& options, bool loaded) {
  // What the driver takes for an allocation beyond its size, and for kernels loaded later.
  constexpr int64_t kSlack = 64 << 20;
  const cuda::DeviceInfo info = cuda::device_info();
  int64_t room = info.free - kSlack + plan.context + (loaded ? plan.weights : 0);
  if (options.vram_budget) room = std::min(room, options.vram_budget);
  if (plan.total() <= room) return;
  const int64_t pages = *std::max_element(std::begin(options.pages), std::end(options.pages));
  const int64_t for_kv = room - (plan.total() - plan.kv);
  const int64_t fitting = plan.kv > 0 && for_kv > 0 ? pages * for_kv / plan.kv : 0;
  throw VramError(plan, options.vram_budget, info.free, std::max<int64_t>(room, 0), fitting);
}

}  // namespace mxgpt
