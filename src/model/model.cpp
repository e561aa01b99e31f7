#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <type_traits>

#include "base/error.h"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt {

namespace {

/// Room that a HostTensor owns; new'ed bytes are aligned for every block.
struct Owned {
  std::shared_ptr<std::byte[]> data;
  size_t size;
  explicit Owned(size_t bytes) : data(new std::byte[bytes]), size(bytes) {}
  HostTensor tensor(Format format, std::vector<int64_t> shape) const {
    return {format, std::move(shape), {data.get(), size}, data};
  }
};

int64_t product(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

/// Files may place tensors at any address; kernels want that of their blocks.
HostTensor aligned(HostTensor tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.bytes.data()) % alignof(float) == 0) return tensor;
  const Owned copy(tensor.bytes.size());
  std::memcpy(copy.data.get(), tensor.bytes.data(), tensor.bytes.size());
  return copy.tensor(tensor.format, tensor.shape);
}

HostTensor to_f32(const HostTensor& tensor) {
  if (tensor.format == Format::f32) return tensor;
  const int64_t elements = product(tensor.shape);
  const Owned copy(elements * sizeof(float));
  traits(tensor.format)
      .dequantize(tensor.bytes.data(), elements, reinterpret_cast<float*>(copy.data.get()));
  return copy.tensor(Format::f32, tensor.shape);
}

/// From [experts][k][rows * stride] to [experts][rows][k], taking every stride-th row from `start`
/// on.
void transpose_experts(const std::byte* from, std::byte* to, size_t size, int64_t experts,
                       int64_t rows, int64_t k, int64_t start, int64_t stride) {
  constexpr int64_t kTile = 32;  // rows at a time: a cache line of `from` serves them all
  const auto copy = [&]<size_t kSize>(std::integral_constant<size_t, kSize>) {
#pragma omp parallel for collapse(2)
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t tile = 0; tile < rows; tile += kTile) {
        const int64_t end = std::min(rows, tile + kTile);
        for (int64_t i = 0; i < k; ++i) {
          const std::byte* in = from + ((e * k + i) * rows * stride + start) * kSize;
          for (int64_t r = tile; r < end; ++r) {
            std::memcpy(to + ((e * rows + r) * k + i) * kSize, in + r * stride * kSize, kSize);
          }
        }
      }
    }
  };
  if (size == 2)
    copy(std::integral_constant<size_t, 2>());
  else
    copy(std::integral_constant<size_t, 4>());
}

void require_shape(const FileTensor& tensor, const std::vector<int64_t>& shape,
                   const std::string& where) {
  if (tensor.shape == shape) return;
  throw Error(where, fmt::format("tensor '{}' has shape {}, but the configuration asks for {}",
                                 tensor.name, shape_text(tensor.shape), shape_text(shape)));
}

Format require_format(const FileTensor& tensor, const std::string& where) {
  if (tensor.format) return *tensor.format;
  throw Error(where,
              fmt::format("tensor '{}' is of type {}, which mxgpt cannot compute with", tensor.name,
                          tensor.type),
              "convert the model to another quantization");
}

}  // namespace

Model::~Model() = default;

std::unique_ptr<Model> Model::open(const std::filesystem::path& path) {
  std::unique_ptr<Model> model(new Model);
  model->path_ = path;
  std::string where = path.string();
  if (std::filesystem::is_directory(path)) {
    model->checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(path));
    const json::Node config = model->checkpoint_->config();
    const std::string_view type = config["model_type"].string();
    model->architecture_ = architecture_of_model_type(type);
    if (!model->architecture_) {
      config["model_type"].fail(fmt::format("is '{}'; mxgpt runs {}", type, known_architectures()));
    }
    model->config_ = model->architecture_->config_from_checkpoint(config);
    model->config_.name = std::filesystem::canonical(path).filename().string();
    where = config.path();
  } else {
    model->gguf_ = std::make_unique<GgufFile>(GgufFile::open(path));
    const GgufMetadata& metadata = model->gguf_->metadata();
    const std::string_view name = metadata.string("general.architecture");
    model->architecture_ = architecture_of_gguf(name);
    if (!model->architecture_) {
      metadata.fail("general.architecture",
                    fmt::format("is '{}'; mxgpt runs {}", name, known_architectures()));
    }
    model->config_ = model->architecture_->config_from_gguf(metadata);
  }
  model->config_.check(where);
  model->read_stop_tokens();
  return model;
}

void Model::read_stop_tokens() {
  const auto add = [&](int64_t token) {
    if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) == stop_tokens_.end()) {
      stop_tokens_.push_back(static_cast<int32_t>(token));
    }
  };
  if (gguf_) {
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                            "tokenizer.ggml.eom_token_id"}) {
      if (gguf_->metadata().contains(key)) add(gguf_->metadata().integer(key, 0, INT32_MAX));
    }
    return;
  }
  const auto add_field = [&](const json::Node& node) {
    const auto field = node.find("eos_token_id");
    if (!field) return;
    if (!field->raw().is_array()) return add(field->integer(0, INT32_MAX));
    for (size_t i = 0; i < field->array().size(); ++i) add(field->at(i).integer(0, INT32_MAX));
  };
  add_field(checkpoint_->generation_config());
  if (stop_tokens_.empty()) add_field(checkpoint_->config());
}

Model::Source Model::find(const TensorSpec& spec, int64_t layer) const {
  const std::string where = path_.string();
  const std::vector<int64_t> shape = spec.shape(config_);
  const auto whole = [&](const FileTensor& tensor, const std::vector<int64_t>& file_shape) {
    require_shape(tensor, file_shape, where);
    const Format format = require_format(tensor, where);
    if (spec.role == Role::vector && traits(format).block_elements != 1) {
      throw Error(where, fmt::format("'{}' is quantized ({}), but norms and biases cannot be",
                                     tensor.name, tensor.type));
    }
    return Source{.format = format, .data = &tensor};
  };
  if (gguf_) return whole(gguf_->tensors().at(spec.gguf_name(layer)), shape);

  const std::string name = spec.checkpoint_name(layer);
  const FileTensors& tensors = checkpoint_->tensors();
  const int64_t stride = spec.layout.row_stride;
  if (!spec.layout.experts) {
    std::vector<int64_t> file_shape = shape;
    file_shape.back() *= stride;
    return whole(tensors.at(name), file_shape);
  }

  const int64_t experts = shape[0], file_rows = shape[1] * stride, k = shape[2];
  // Unquantized fine-tunes: [experts, k, rows], so that x · W needs no transposition in their
  // framework.
  if (const FileTensor* dense = tensors.find(name)) return whole(*dense, {experts, k, file_rows});
  const FileTensor& blocks = tensors.at(name + "_blocks");
  const FileTensor& scales = tensors.at(name + "_scales");
  if (k % Mxfp4::kElements) {
    throw Error(where, fmt::format("MXFP4 experts need rows in multiples of {}, not {}",
                                   Mxfp4::kElements, k));
  }
  require_shape(blocks, {experts, file_rows, k / Mxfp4::kElements, 16}, where);
  require_shape(scales, {experts, file_rows, k / Mxfp4::kElements}, where);
  if (blocks.type != "U8" || scales.type != "U8") {
    throw Error(where, fmt::format("'{}_blocks' and '_scales' are {} and {}, not U8", name,
                                   blocks.type, scales.type));
  }
  return {.format = Format::mxfp4, .data = &blocks, .scales = &scales};
}

Format Model::stored_format(const TensorSpec& spec, int64_t layer) const {
  return find(spec, layer).format;
}

HostTensor Model::read(const TensorSpec& spec, int64_t layer) const {
  const Source source = find(spec, layer);
  std::vector<int64_t> shape = spec.shape(config_);
  const int64_t start = spec.layout.row_start, stride = spec.layout.row_stride;
  const std::span<const std::byte> bytes = source.data->bytes;
  const size_t size = traits(source.format).block_bytes;

  if (checkpoint_ && spec.layout.experts) {
    const int64_t experts = shape[0], rows = shape[1], k = shape[2], file_rows = rows * stride;
    if (source.scales) {
      const int64_t groups = k / Mxfp4::kElements;
      const Owned copy(experts * rows * groups * sizeof(Mxfp4::Block));
#pragma omp parallel for collapse(2)
      for (int64_t e = 0; e < experts; ++e) {
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t from = (e * file_rows + start + r * stride) * groups;
          auto* out = reinterpret_cast<Mxfp4::Block*>(copy.data.get()) + (e * rows + r) * groups;
          for (int64_t g = 0; g < groups; ++g) {
            mxfp4_from_checkpoint(reinterpret_cast<const uint8_t*>(&bytes[(from + g) * 16]),
                                  static_cast<uint8_t>(source.scales->bytes[from + g]), out[g]);
          }
        }
      }
      return copy.tensor(source.format, std::move(shape));
    }
    const Owned copy(experts * rows * k * size);
    transpose_experts(bytes.data(), copy.data.get(), size, experts, rows, k, start, stride);
    return copy.tensor(source.format, std::move(shape));
  }

  if (checkpoint_ && stride != 1) {
    const int64_t elements = product(shape);
    const Owned copy(elements * size);
    for (int64_t i = 0; i < elements; ++i) {
      std::memcpy(&copy.data[i * size], &bytes[(i * stride + start) * size], size);
    }
    return copy.tensor(source.format, std::move(shape));
  }
  return aligned({source.format, std::move(shape), bytes, nullptr});
}

void Model::release(const TensorSpec& spec, int64_t layer) const {
  const Source source = find(spec, layer);
  for (const FileTensor* tensor : {source.data, source.scales}) {
    if (!tensor) continue;
    if (gguf_) gguf_->release(tensor->bytes);
    if (checkpoint_) checkpoint_->release(tensor->bytes);
  }
}

const Weights& Model::weights() const {
  std::call_once(load_once_, [this] {
    weights_.layers.resize(config_.layers);
    for (const TensorSpec& spec : architecture_->tensors) {
      for (int64_t layer = 0; layer < (spec.per_layer() ? config_.layers : 1); ++layer) {
        HostTensor host = read(spec, layer);
        if (spec.role == Role::vector) host = to_f32(host);
        spec.in(weights_, layer) = {.format = host.format,
                                    .data = host.bytes.data(),
                                    .slices = dim(config_, spec.slices),
                                    .rows = dim(config_, spec.rows),
                                    .k = dim(config_, spec.k)};
        loaded_.push_back(std::move(host));
      }
    }
  });
  return weights_;
}

}  // namespace mxgpt
