#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>

#include "base/error.h"
#include "model/repack.h"
#include "model/weight_io.h"
#include "quant/mxfp4/mxfp4.h"
#include "runtime/cuda_weights.h"

namespace mxgpt::model {

namespace {

/// Room that a HostTensor owns; new'ed bytes are aligned for every block.
struct OwnedBytes {
  std::shared_ptr<std::byte[]> data;
  size_t size;
  explicit OwnedBytes(size_t bytes) : data(new std::byte[bytes]), size(bytes) {}
  HostTensor tensor(quant::Format format, std::vector<int64_t> shape) const {
    return {format, std::move(shape), {data.get(), size}, data};
  }
};

int64_t element_count(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

/// Files may place tensors at any address; kernels want that of their blocks.
bool is_aligned(std::span<const std::byte> bytes) {
  return reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0;
}

HostTensor ensure_aligned(HostTensor tensor) {
  if (is_aligned(tensor.bytes)) return tensor;
  const OwnedBytes copy(tensor.bytes.size());
  std::memcpy(copy.data.get(), tensor.bytes.data(), tensor.bytes.size());
  return copy.tensor(tensor.format, tensor.shape);
}

HostTensor to_f32(const HostTensor& tensor) {
  if (tensor.format == quant::Format::f32) return tensor;
  const int64_t elements = element_count(tensor.shape);
  const OwnedBytes copy(elements * sizeof(float));
  quant::traits(tensor.format)
      .dequantize(tensor.bytes.data(), elements, reinterpret_cast<float*>(copy.data.get()));
  return copy.tensor(quant::Format::f32, tensor.shape);
}

void require_shape(const io::FileTensor& tensor, const std::vector<int64_t>& shape,
                   const std::string& where) {
  if (tensor.shape == shape) return;
  throw Error(
      where, fmt::format("tensor '{}' has shape {}, but the configuration asks for {}", tensor.name,
                         io::format_shape(tensor.shape), io::format_shape(shape)));
}

quant::Format require_format(const io::FileTensor& tensor, const std::string& where) {
  if (tensor.format) return *tensor.format;
  throw Error(where,
              fmt::format("tensor '{}' is of type {}, which mxgpt cannot compute with", tensor.name,
                          tensor.type),
              "convert the model to another quantization");
}

}  // namespace

Model::~Model() = default;

std::unique_ptr<Model> Model::open(const std::filesystem::path& path, LoadOptions load_options) {
  std::unique_ptr<Model> model(new Model);
  model->path_ = path;
  model->load_options_ = load_options;
  std::string where = path.string();
  if (std::filesystem::is_directory(path)) {
    model->checkpoint_ = std::make_unique<io::Checkpoint>(io::Checkpoint::open(path));
    const json::Node config = model->checkpoint_->config();
    const std::string_view type = config["model_type"].string();
    model->architecture_ = find_architecture_by_model_type(type);
    if (!model->architecture_) {
      config["model_type"].fail(
          fmt::format("is '{}'; mxgpt runs {}", type, supported_architectures()));
    }
    model->config_ = model->architecture_->config_from_checkpoint(config);
    model->config_.name = std::filesystem::canonical(path).filename().string();
    where = config.path();
  } else {
    model->gguf_ = std::make_unique<io::GgufFile>(io::GgufFile::open(path));
    const io::GgufMetadata& metadata = model->gguf_->metadata();
    const std::string_view name = metadata.string("general.architecture");
    model->architecture_ = find_architecture_by_gguf_name(name);
    if (!model->architecture_) {
      metadata.fail("general.architecture",
                    fmt::format("is '{}'; mxgpt runs {}", name, supported_architectures()));
    }
    model->config_ = model->architecture_->config_from_gguf(metadata);
    model->read_rope_freq_factors();
  }
  model->config_.check(where);
  model->check_head();
  model->check_names();
  model->read_stop_tokens();
  return model;
}

void Model::check_head() const {
  if (!checkpoint_ || checkpoint_->config().boolean_or("tie_word_embeddings", true)) return;
  for (const TensorSpec& spec : architecture_->tensors) {
    if (spec.role == Role::lm_head && !has(spec, 0)) {
      throw Error(path_.string(),
                  fmt::format("'{}' is missing, and config.json says that the embedding does not "
                              "take its place (tie_word_embeddings)",
                              spec.checkpoint),
                  "fetch all of the weights");
    }
  }
}

void Model::check_names() const {
  std::set<std::string, std::less<>> known;
  for (const TensorSpec& spec : architecture_->tensors) {
    for (int64_t layer = 0; layer < spec.count(config_); ++layer) {
      known.insert(gguf_ ? spec.gguf_name(layer) : spec.checkpoint_name(layer));
    }
  }
  // Tables and masks that older checkpoints carry along, which follow from the configuration.
  const auto is_derived = [](std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn.bias") ||
           name.ends_with(".attn.masked_bias");
  };
  const auto is_known = [&](std::string_view name) {
    if (known.contains(name)) return true;
    if (gguf_) return false;
    for (const std::string_view suffix : {"_blocks", "_scales"}) {
      if (name.ends_with(suffix) && known.contains(name.substr(0, name.size() - suffix.size())))
        return true;
    }
    return known.contains(std::string(architecture_->checkpoint_prefix).append(name)) ||
           is_derived(name);
  };
  const io::FileTensors& tensors = gguf_ ? gguf_->tensors() : checkpoint_->tensors();
  for (const io::FileTensor& tensor : tensors) {
    if (is_known(tensor.name)) continue;
    // A tensor that is missing says more than one that is left over: it may have the other's name.
    for (const TensorSpec& spec : architecture_->tensors) {
      for (int64_t layer = 0; layer < spec.count(config_); ++layer) {
        if (has(spec, layer)) stored_format(spec, layer);
      }
    }
    throw Error(path_.string(),
                fmt::format("has a tensor '{}', which mxgpt's {} would leave out", tensor.name,
                            architecture_->gguf),
                "the model differs from what mxgpt knows under this name");
  }
}

void Model::read_rope_freq_factors() {
  for (const TensorSpec& spec : architecture_->tensors) {
    if (!spec.refers_to(&Weights::rope_freq_factors) || !has(spec, 0)) continue;
    const HostTensor tensor = to_f32(read(spec, 0));
    const auto* values = reinterpret_cast<const float*>(tensor.bytes.data());
    for (RopeConfig& rope : config_.rope)
      rope.freq_factors.assign(values, values + element_count(tensor.shape));
  }
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

const io::FileTensor* Model::find_in_checkpoint(const std::string& name) const {
  const io::FileTensors& tensors = checkpoint_->tensors();
  if (const io::FileTensor* tensor = tensors.find(name)) return tensor;
  const std::string_view prefix = architecture_->checkpoint_prefix;
  return name.starts_with(prefix) ? tensors.find(name.substr(prefix.size())) : nullptr;
}

bool Model::has(const TensorSpec& spec, int64_t layer) const {
  if (!spec.layout.optional) return true;
  if (gguf_) return gguf_->tensors().find(spec.gguf_name(layer));
  if (is_derived_from_config(spec))
    return !config_.rope_for(backend::KvGroup::full).freq_factors.empty();
  return find_in_checkpoint(spec.checkpoint_name(layer));
}

bool Model::is_derived_from_config(const TensorSpec& spec) const {
  return checkpoint_ && spec.checkpoint.empty();
}

Model::TensorSource Model::find_source(const TensorSpec& spec, int64_t layer) const {
  const std::string where = path_.string();
  const std::vector<int64_t> shape = spec.shape(config_);
  const auto unsplit = [&](const io::FileTensor& tensor, const std::vector<int64_t>& file_shape) {
    require_shape(tensor, file_shape, where);
    const quant::Format format = require_format(tensor, where);
    if (spec.role == Role::vector && quant::traits(format).block_elements != 1) {
      throw Error(where, fmt::format("'{}' is quantized ({}), but norms and biases cannot be",
                                     tensor.name, tensor.type));
    }
    return TensorSource{.format = format, .data = &tensor};
  };
  if (gguf_) return unsplit(gguf_->tensors().at(spec.gguf_name(layer)), shape);

  const std::string name = spec.checkpoint_name(layer);
  const io::FileTensors& tensors = checkpoint_->tensors();
  const io::FileTensor* found = find_in_checkpoint(name);
  const int64_t stride = spec.layout.row_stride;
  if (!spec.layout.stacked_experts) {
    std::vector<int64_t> file_shape = shape;
    if (spec.layout.transposed) std::swap(file_shape.front(), file_shape.back());
    file_shape.back() *= stride;
    return unsplit(found ? *found : tensors.at(name), file_shape);
  }

  const int64_t experts = shape[0], file_rows = shape[1] * stride, k = shape[2];
  // Unquantized fine-tunes: [experts, k, rows], so that x · W needs no transposition in their
  // framework.
  if (found) return unsplit(*found, {experts, k, file_rows});
  const io::FileTensor& blocks = tensors.at(name + "_blocks");
  const io::FileTensor& scales = tensors.at(name + "_scales");
  if (k % quant::Mxfp4::kElements) {
    throw Error(where, fmt::format("MXFP4 experts need rows in multiples of {}, not {}",
                                   quant::Mxfp4::kElements, k));
  }
  require_shape(blocks, {experts, file_rows, k / quant::Mxfp4::kElements, 16}, where);
  require_shape(scales, {experts, file_rows, k / quant::Mxfp4::kElements}, where);
  if (blocks.type != "U8" || scales.type != "U8") {
    throw Error(where, fmt::format("'{}_blocks' and '_scales' are {} and {}, not U8", name,
                                   blocks.type, scales.type));
  }
  return {.format = quant::Format::mxfp4, .data = &blocks, .scales = &scales};
}

quant::Format Model::stored_format(const TensorSpec& spec, int64_t layer) const {
  if (is_derived_from_config(spec)) return quant::Format::f32;
  const quant::Format format = find_source(spec, layer).format;
  return checkpoint_ && spec.layout.plus_one ? quant::Format::f32 : format;
}

bool Model::is_view(const TensorSpec& spec, const TensorSource& source) const {
  if (!is_aligned(source.data->bytes)) return false;
  if (gguf_) return true;
  const FileLayout& layout = spec.layout;
  return !layout.stacked_experts && !layout.transposed && layout.row_stride == 1 &&
         !layout.permute_rope && !layout.plus_one;
}

Model::StoredTensorInfo Model::stored_info(const TensorSpec& spec, int64_t layer) const {
  const quant::Format stored = stored_format(spec, layer);
  const quant::Format format = spec.role == Role::vector ? quant::Format::f32 : stored;
  const auto bytes =
      static_cast<size_t>(quant::traits(format).row_bytes(element_count(spec.shape(config_))));
  const bool view = !is_derived_from_config(spec) && is_view(spec, find_source(spec, layer));
  return {format, bytes, view && format == stored && load_options_.use_mmap};
}

HostTensor Model::read(const TensorSpec& spec, int64_t layer) const {
  std::vector<int64_t> shape = spec.shape(config_);
  if (is_derived_from_config(spec)) {
    const std::vector<float>& divisors = config_.rope_for(backend::KvGroup::full).freq_factors;
    return {quant::Format::f32, std::move(shape), std::as_bytes(std::span(divisors)), nullptr};
  }
  const TensorSource source = find_source(spec, layer);
  const std::span<const std::byte> bytes = source.data->bytes;
  if (is_view(spec, source)) return {source.format, std::move(shape), bytes, nullptr};
  if (gguf_) return ensure_aligned({source.format, std::move(shape), bytes, nullptr});

  const FileLayout& layout = spec.layout;
  const quant::FormatTraits& format = quant::traits(source.format);
  const size_t size = format.block_bytes;
  const int64_t rows = dim(config_, spec.rows), k = dim(config_, spec.k);
  const auto copy = [&](const auto& fill) {
    const OwnedBytes buffer(element_count(shape) / format.block_elements * format.block_bytes);
    fill(buffer.data.get());
    return buffer.tensor(source.format, shape);
  };
  repack::StridedRows layout_rows{.num_experts = dim(config_, spec.num_experts),
                                  .rows = rows,
                                  .k = k,
                                  .start = layout.row_start,
                                  .stride = layout.row_stride};
  if (source.scales) {
    return copy(
        [&](std::byte* out) { repack::mxfp4(bytes, source.scales->bytes, layout_rows, out); });
  }
  if (layout.stacked_experts || layout.transposed)
    return copy([&](std::byte* out) { repack::transpose(bytes, layout_rows, size, out); });
  if (layout.row_stride != 1) {
    // Biases of alternating rows: a vector's elements are the rows.
    layout_rows.rows *= layout_rows.k;
    layout_rows.k = 1;
    return copy([&](std::byte* out) { repack::select_rows(bytes, layout_rows, size, out); });
  }
  if (layout.permute_rope) {
    const int64_t elements = element_count(shape);
    const size_t row_bytes = (rows == 1 ? 1 : k) * size;
    const int64_t heads = elements * static_cast<int64_t>(size) /
                          (config_.head_dim * static_cast<int64_t>(row_bytes));
    return copy([&](std::byte* out) {
      repack::interleave_rope_pairs(bytes, heads, config_.head_dim, row_bytes, out);
    });
  }
  HostTensor tensor = ensure_aligned({source.format, shape, bytes, nullptr});
  if (!layout.plus_one) return tensor;
  const OwnedBytes sums(element_count(shape) * sizeof(float));
  auto* values = reinterpret_cast<float*>(sums.data.get());
  format.dequantize(tensor.bytes.data(), element_count(shape), values);
  for (int64_t i = 0; i < element_count(shape); ++i) values[i] += 1;
  return sums.tensor(quant::Format::f32, shape);
}

void Model::release_pages(const TensorSpec& spec, int64_t layer) const {
  if (is_derived_from_config(spec)) return;
  const TensorSource source = find_source(spec, layer);
  for (const io::FileTensor* tensor : {source.data, source.scales}) {
    if (!tensor) continue;
    if (gguf_) gguf_->release_pages(tensor->bytes);
    if (checkpoint_) checkpoint_->release_pages(tensor->bytes);
  }
}

HostTensor Model::load_tensor(const TensorSpec& spec, int64_t layer) const {
  HostTensor host = read(spec, layer);
  return spec.role == Role::vector ? to_f32(host) : host;
}

const Weights& Model::weights() const {
  std::call_once(load_once_, [this] { load_tensor(); });
  return weights_;
}

void Model::load_tensor() const {
  host_tensors_.clear();  // of an attempt that failed
  constexpr size_t kLargeBytes = 1 << 20;
  for (const TensorSpec& spec : architecture_->tensors) {
    for (int64_t layer = 0; layer < spec.count(config_); ++layer) {
      if (!has(spec, layer)) continue;
      HostTensor host = load_tensor(spec, layer);
      // What was repacked is not wanted twice in memory.
      if (host.owner && host.bytes.size() >= kLargeBytes) release_pages(spec, layer);
      host_tensors_.push_back(std::move(host));
    }
  }
  if (!load_options_.use_mmap) {
    std::vector<HostTensor*> views;
    for (HostTensor& host : host_tensors_) {
      if (!host.owner && file_of(host.bytes)) views.push_back(&host);
    }
    read_into_memory(views, [this](const auto& bytes) { return file_of(bytes); });
  }
  if (load_options_.use_mlock) lock_in_memory(host_tensors_);

  weights_.layers.resize(config_.layers);
  auto host = host_tensors_.begin();
  for (const TensorSpec& spec : architecture_->tensors) {
    for (int64_t layer = 0; layer < spec.count(config_); ++layer) {
      if (!has(spec, layer)) continue;
      spec.get(weights_, layer) = {.format = host->format,
                                   .data = host->bytes.data(),
                                   .num_experts = dim(config_, spec.num_experts),
                                   .rows = dim(config_, spec.rows),
                                   .k = dim(config_, spec.k)};
      ++host;
    }
  }
}

const Weights& Model::weights(backend::Device device) const {
  if (device == backend::Device::cpu) return weights();
  const std::lock_guard lock(cuda_mutex_);
  if (!cuda_weights_) cuda_weights_ = std::make_unique<runtime::CudaWeights>(*this, 0);
  return cuda_weights_->weights();
}

std::unique_ptr<runtime::Runner> Model::create_runner(const runtime::RunnerOptions& options) const {
  if (options.device == backend::Device::cpu)
    return architecture_->create_runner(config_, weights(), options);
  const std::lock_guard lock(cuda_mutex_);
  if (cuda_weights_ && cuda_weights_->offloaded_layers() != options.cpu_offload_layers)
    cuda_weights_.reset();
  runtime::require_device_memory(runtime::plan_cuda_memory(*this, options), options,
                                 cuda_weights_ != nullptr);
  if (!cuda_weights_)
    cuda_weights_ = std::make_unique<runtime::CudaWeights>(*this, options.cpu_offload_layers);
  return architecture_->create_runner(config_, cuda_weights_->weights(), options);
}

}  // namespace mxgpt::model
