#include "runtime/cuda_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "backend/cuda/host_to_device_copier.h"
#include "backend/cuda/weight_repack.h"
#include "base/progress.h"

namespace mxgpt::runtime {

namespace {

/// Whether weights are stored in the layout of the sm90 kernels.
bool packs_weights(const model::ModelFile& model) {
  return static_cast<bool>(cuda::sm90::supports(stored_model_traits(model), cuda::device_caps()));
}

/// Format and layout of a tensor in GPU memory.
struct DeviceTensorInfo {
  quant::Format format;
  uint8_t layout = cuda::kFileLayout;
};

DeviceTensorInfo device_tensor_info(const model::ModelFile& model, const model::TensorRef& tensor,
                                    bool packed) {
  const model::TensorSpec& spec = *tensor.spec;
  if (spec.role == model::Role::vector) return {quant::Format::f32};
  const quant::Format format = model.stored_format(tensor);
  if (!packed) return {format};
  if (spec.role == model::Role::router) return {quant::Format::f32};
  const auto is = [&](backend::Tensor model::Layer::*member) { return spec.refers_to(member); };
  if (is(&model::Layer::q) || is(&model::Layer::k)) return {format, cuda::kMmaTilesRopePaired};
  if (spec.role == model::Role::expert || is(&model::Layer::v) || is(&model::Layer::o) ||
      spec.role == model::Role::lm_head)
    return {format, cuda::kMmaTiles};
  return {format};
}

bool is_offloaded(const model::ModelFile& model, const model::TensorRef& tensor,
                  int64_t offloaded_layers) {
  return tensor.spec->role == model::Role::expert &&
         tensor.layer >= model.config().layers - offloaded_layers;
}

/// The tensor without data.
backend::Tensor tensor_header(const model::Config& c, const model::TensorSpec& spec,
                              const DeviceTensorInfo& info) {
  return {.format = info.format,
          .num_experts = model::dim(c, spec.num_experts),
          .rows = model::dim(c, spec.rows),
          .k = model::dim(c, spec.k),
          .layout = info.layout};
}

int64_t tensor_bytes(const backend::Tensor& t) {
  return t.layout ? cuda::repacked_bytes(t) : t.num_experts * t.rows * t.row_bytes();
}

/// Copies blocks to a staging area on the GPU and repacks them into tiles, in chunks of rows.
void upload_tiles(std::span<const std::byte> blocks, const backend::Tensor& tensor,
                  cuda::HostToDeviceCopier& uploader, const cuda::Memory& staging) {
  // Tiles are ordered by rows, and a head is a whole number of tiles.
  constexpr int64_t kTileRows = 64;
  const int64_t row_bytes = tensor.row_bytes(), expert_bytes = tensor.rows * row_bytes;
  const int64_t chunk_experts =
      std::max<int64_t>(1, std::min(tensor.num_experts, staging.bytes() / expert_bytes));
  const int64_t chunk_rows = expert_bytes <= staging.bytes()
                                 ? tensor.rows
                                 : staging.bytes() / row_bytes / kTileRows * kTileRows;
  for (int64_t s = 0; s < tensor.num_experts; s += chunk_experts) {
    for (int64_t r = 0; r < tensor.rows; r += chunk_rows) {
      backend::Tensor chunk = tensor, preceding = tensor;
      chunk.num_experts = std::min(chunk_experts, tensor.num_experts - s);
      chunk.rows = std::min(chunk_rows, tensor.rows - r);
      preceding.num_experts = s;
      int64_t offset = cuda::repacked_bytes(preceding);
      preceding.num_experts = 1;
      preceding.rows = r;
      offset += cuda::repacked_bytes(preceding);
      chunk.data = tensor.data + offset;
      uploader.copy(blocks.subspan(s * expert_bytes + r * row_bytes,
                                   chunk.num_experts * chunk.rows * row_bytes),
                    staging.data());
      cuda::repack(chunk, staging.data(), uploader.stream());
    }
  }
}

}  // namespace

cuda::ModelTraits stored_model_traits(const model::ModelFile& model) {
  model::Weights formats;  // without data
  formats.layers.resize(model.config().layers);
  for (const model::TensorRef& tensor : model.tensors())
    tensor.get(formats).format = model.stored_format(tensor);
  return cuda_model_traits(model.config(), formats);
}

CudaWeights::Bytes CudaWeights::bytes(const Model& model, int64_t offloaded_layers) {
  const bool packed = packs_weights(model);
  cuda::DeviceArena device_arena, host_arena;
  for (const model::TensorRef& ref : model.tensors()) {
    const backend::Tensor tensor =
        tensor_header(model.config(), *ref.spec, device_tensor_info(model, ref, packed));
    (is_offloaded(model, ref, offloaded_layers) ? host_arena : device_arena)
        .allocate<std::byte>(tensor_bytes(tensor));
  }
  return {device_arena.used(), host_arena.used()};
}

CudaWeights::CudaWeights(const Model& model, int64_t offloaded_layers)
    : offloaded_layers_(offloaded_layers),
      device_(cuda::Memory::Kind::device, bytes(model, offloaded_layers).device),
      host_(cuda::Memory::Kind::pinned, bytes(model, offloaded_layers).host) {
  const model::Config& config = model.config();
  weights_.layers.resize(config.layers);
  const bool packed = packs_weights(model);
  cuda::DeviceArena device_arena(device_.data()), host_arena(host_.data());
  cuda::HostToDeviceCopier uploader;
  constexpr int64_t kStaging = 64 << 20;
  const cuda::Memory staging(cuda::Memory::Kind::device, kStaging);
  const auto start = std::chrono::steady_clock::now();
  Progress progress("Loading", device_.bytes() + host_.bytes());
  for (const model::TensorRef& ref : model.tensors()) {
    const model::HostTensor host = model::load_tensor(model, ref);
    backend::Tensor& tensor = ref.get(weights_);
    tensor = tensor_header(config, *ref.spec, device_tensor_info(model, ref, packed));
    const int64_t size = tensor_bytes(tensor);
    tensor.data = (is_offloaded(model, ref, offloaded_layers) ? host_arena : device_arena)
                      .allocate<std::byte>(size);
    if (tensor.layout) {
      upload_tiles(host.bytes, tensor, uploader, staging);
    } else if (tensor.format != host.format) {
      std::vector<float> values(tensor.num_experts * tensor.rows * tensor.k);
      quant::traits(host.format).dequantize(host.bytes.data(), std::ssize(values), values.data());
      uploader.copy(std::as_bytes(std::span(values)), const_cast<std::byte*>(tensor.data));
    } else {
      uploader.copy(host.bytes, const_cast<std::byte*>(tensor.data));
    }
    model.release_pages(ref);
    progress.advance(size);
  }
  uploader.synchronize();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  constexpr int64_t kLarge = 1 << 30;
  if (device_.bytes() >= kLarge) {
    const double gb = static_cast<double>(device_.bytes()) / 1e9;
    fmt::print(stderr, "Loaded {:.2f} GB onto {} in {:.2f} s, {:.1f} GB/s\n", gb,
               cuda::device_info().name, seconds.count(), gb / seconds.count());
  }
}

}  // namespace mxgpt::runtime
