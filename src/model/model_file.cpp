#include "model/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::model {

namespace {

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

ModelFile::ModelFile(const std::filesystem::path& path) : path_(path) {
  if (std::filesystem::is_directory(path)) {
    open_checkpoint();
  } else {
    open_gguf();
  }
  check_head();
  check_names();
  read_stop_tokens();
}

void ModelFile::open_checkpoint() {
  checkpoint_ = std::make_unique<io::Checkpoint>(io::Checkpoint::open(path_));
  const json::Node config = checkpoint_->config();
  const std::string_view type = config["model_type"].string();
  architecture_ = find_architecture_by_model_type(type);
  if (!architecture_) {
    config["model_type"].fail(
        fmt::format("is '{}'; mxgpt runs {}", type, supported_architectures()));
  }
  config_ = architecture_->config_from_checkpoint(config);
  config_.name = std::filesystem::canonical(path_).filename().string();
  config_.check(config.path());
}

void ModelFile::open_gguf() {
  gguf_ = std::make_unique<io::GgufFile>(io::GgufFile::open(path_));
  const io::GgufMetadata& metadata = gguf_->metadata();
  const std::string_view name = metadata.string("general.architecture");
  architecture_ = find_architecture_by_gguf_name(name);
  if (!architecture_) {
    metadata.fail("general.architecture",
                  fmt::format("is '{}'; mxgpt runs {}", name, supported_architectures()));
  }
  config_ = architecture_->config_from_gguf(metadata);
  read_rope_freq_factors();
  config_.check(path_.string());
}

void ModelFile::check_head() const {
  if (!checkpoint_ || checkpoint_->config().boolean_or("tie_word_embeddings", true)) return;
  for (const TensorRef& tensor : tensor_refs(architecture_->tensors, config_)) {
    if (tensor.spec->role == Role::lm_head && !has(tensor)) {
      throw Error(path_.string(),
                  fmt::format("'{}' is missing, but config.json does not tie it to the embedding "
                              "(tie_word_embeddings)",
                              tensor.spec->checkpoint),
                  "fetch all files of the checkpoint");
    }
  }
}

void ModelFile::check_names() const {
  std::set<std::string, std::less<>> known;
  for (const TensorRef& tensor : tensor_refs(architecture_->tensors, config_))
    known.insert(gguf_ ? tensor.gguf_name() : tensor.checkpoint_name());
  // Older checkpoints include tables and masks that follow from the configuration.
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
  for (const io::FileTensor& stored : file_tensors()) {
    if (is_known(stored.name)) continue;
    // Report a missing tensor first: the unknown one may be the same tensor under another name.
    for (const TensorRef& tensor : tensors()) stored_format(tensor);
    throw Error(path_.string(),
                fmt::format("has tensor '{}', which mxgpt's {} does not use", stored.name,
                            architecture_->gguf),
                "the model is a variant of this architecture that mxgpt does not support");
  }
}

void ModelFile::read_rope_freq_factors() {
  for (const TensorRef& tensor : tensor_refs(architecture_->tensors, config_)) {
    if (!tensor.spec->refers_to(&Weights::rope_freq_factors) || !has(tensor)) continue;
    const Source stored = source(tensor);
    const std::vector<std::byte> aligned(stored.data->bytes.begin(), stored.data->bytes.end());
    std::vector<float> factors(config_.head_dim / 2);
    quant::traits(stored.format).dequantize(aligned.data(), std::ssize(factors), factors.data());
    for (RopeConfig& rope : config_.rope) rope.freq_factors = factors;
  }
}

void ModelFile::read_stop_tokens() {
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

const io::FileTensor* ModelFile::find_in_checkpoint(const std::string& name) const {
  const io::FileTensors& tensors = checkpoint_->tensors();
  if (const io::FileTensor* tensor = tensors.find(name)) return tensor;
  const std::string_view prefix = architecture_->checkpoint_prefix;
  return name.starts_with(prefix) ? tensors.find(name.substr(prefix.size())) : nullptr;
}

bool ModelFile::has(const TensorRef& tensor) const {
  if (!tensor.spec->layout.optional) return true;
  if (gguf_) return gguf_->tensors().find(tensor.gguf_name());
  if (is_derived_from_config(tensor))
    return !config_.rope_for(backend::KvGroup::full).freq_factors.empty();
  return find_in_checkpoint(tensor.checkpoint_name());
}

std::vector<TensorRef> ModelFile::tensors() const {
  std::vector<TensorRef> refs = tensor_refs(architecture_->tensors, config_);
  std::erase_if(refs, [this](const TensorRef& tensor) { return !has(tensor); });
  return refs;
}

bool ModelFile::is_derived_from_config(const TensorRef& tensor) const {
  return checkpoint_ && tensor.spec->checkpoint.empty();
}

ModelFile::Source ModelFile::source(const TensorRef& tensor) const {
  const TensorSpec& spec = *tensor.spec;
  const std::string where = path_.string();
  const std::vector<int64_t> shape = spec.shape(config_);
  const auto checked = [&](const io::FileTensor& stored, const std::vector<int64_t>& file_shape) {
    require_shape(stored, file_shape, where);
    const quant::Format format = require_format(stored, where);
    if (spec.role == Role::vector && quant::traits(format).block_elements != 1) {
      throw Error(where, fmt::format("'{}' is quantized ({}), but norms and biases cannot be",
                                     stored.name, stored.type));
    }
    return Source{.format = format, .data = &stored};
  };
  if (gguf_) return checked(gguf_->tensors().at(tensor.gguf_name()), shape);

  const std::string name = tensor.checkpoint_name();
  const io::FileTensors& tensors = checkpoint_->tensors();
  const io::FileTensor* found = find_in_checkpoint(name);
  const int64_t stride = spec.layout.row_stride;
  if (!spec.layout.stacked_experts) {
    std::vector<int64_t> file_shape = shape;
    if (spec.layout.transposed) std::swap(file_shape.front(), file_shape.back());
    file_shape.back() *= stride;
    return checked(found ? *found : tensors.at(name), file_shape);
  }

  const int64_t experts = shape[0], file_rows = shape[1] * stride, k = shape[2];
  // Unquantized fine-tunes store [experts, k, rows], so that x · W needs no transpose.
  if (found) return checked(*found, {experts, k, file_rows});
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

quant::Format ModelFile::stored_format(const TensorRef& tensor) const {
  if (is_derived_from_config(tensor)) return quant::Format::f32;
  const quant::Format format = source(tensor).format;
  return checkpoint_ && tensor.spec->layout.plus_one ? quant::Format::f32 : format;
}

bool ModelFile::is_stored_as_is(const TensorRef& tensor) const {
  if (gguf_) return true;
  const FileLayout& layout = tensor.spec->layout;
  return !layout.stacked_experts && !layout.transposed && layout.row_stride == 1 &&
         !layout.permute_rope && !layout.plus_one;
}

void ModelFile::release_pages(const TensorRef& tensor) const {
  if (is_derived_from_config(tensor)) return;
  const Source stored = source(tensor);
  for (const io::FileTensor* part : {stored.data, stored.scales}) {
    if (!part) continue;
    if (gguf_) gguf_->release_pages(part->bytes);
    if (checkpoint_) checkpoint_->release_pages(part->bytes);
  }
}

}  // namespace mxgpt::model
