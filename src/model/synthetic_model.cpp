#include "model/synthetic_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstring>
#include <map>
#include <numbers>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "base/thread_pool.h"

namespace mxgpt::model {

namespace {

constexpr SyntheticShape kShapes[] = {
    {"gpt-oss-20b", R"({"model_type": "gpt_oss", "vocab_size": 201088, "num_hidden_layers": 24,
        "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
        "num_experts_per_tok": 4, "max_position_embeddings": 131072, "sliding_window": 128,
        "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32,
        "original_max_position_embeddings": 4096, "truncate": false}})"},
    {"gpt-oss-120b", R"({"model_type": "gpt_oss", "vocab_size": 201088, "num_hidden_layers": 36,
        "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128,
        "num_experts_per_tok": 4, "max_position_embeddings": 131072, "sliding_window": 128,
        "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32,
        "original_max_position_embeddings": 4096, "truncate": false}})"},
    {"gpt-oss-nano", R"({"model_type": "gpt_oss", "vocab_size": 8064, "num_hidden_layers": 6,
        "hidden_size": 288, "intermediate_size": 288, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 64, "num_local_experts": 12,
        "num_experts_per_tok": 4, "max_position_embeddings": 131072, "sliding_window": 128,
        "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32,
        "original_max_position_embeddings": 4096, "truncate": false}})"},
    {"gpt2", R"({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_layer": 12,
        "n_embd": 768, "n_head": 12, "activation_function": "gelu_new"})"},
    {"smollm2-135m", R"({"model_type": "llama", "vocab_size": 49152, "num_hidden_layers": 30,
        "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
        "num_key_value_heads": 3, "max_position_embeddings": 8192, "rope_theta": 100000,
        "hidden_act": "silu"})"},
    {"llama-3.2-1b", R"({"model_type": "llama", "vocab_size": 128256, "num_hidden_layers": 16,
        "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072,
        "rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 32,
        "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192},
        "hidden_act": "silu"})"},
    {"llama-3.1-8b", R"({"model_type": "llama", "vocab_size": 128256, "num_hidden_layers": 32,
        "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 131072, "rope_theta": 500000,
        "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
        "high_freq_factor": 4, "original_max_position_embeddings": 8192},
        "hidden_act": "silu", "tie_word_embeddings": false})"},
    {"qwen3-0.6b", R"({"model_type": "qwen3", "vocab_size": 151936, "num_hidden_layers": 28,
        "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "rope_theta": 1000000, "hidden_act": "silu"})"},
    {"phi-3.5-mini", R"({"model_type": "phi3", "vocab_size": 32064, "num_hidden_layers": 32,
        "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "rope_theta": 10000,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": false})"},
    {"gemma3-270m", R"({"model_type": "gemma3_text", "vocab_size": 262144,
        "num_hidden_layers": 18, "hidden_size": 640, "intermediate_size": 2048,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "max_position_embeddings": 32768, "sliding_window": 512, "query_pre_attn_scalar": 256,
        "hidden_activation": "gelu_pytorch_tanh"})"},
};

/// SplitMix64's output function (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
/// generators"). Numbers are hashes of their index, so any core can compute any of them.
uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// Normally distributed number `index` of a stream (Box and Muller 1958).
float normal_variate(uint64_t stream, uint64_t index) {
  const uint64_t a = splitmix64(stream + 2 * index), b = splitmix64(stream + 2 * index + 1);
  const double radius = std::sqrt(-2 * std::log((static_cast<double>(a >> 11) + 1) * 0x1p-53));
  const double angle = 2 * std::numbers::pi * static_cast<double>(b >> 11) * 0x1p-53;
  return static_cast<float>(radius * std::cos(angle));
}

struct WeightDistribution {
  float mean, stddev;
  auto operator<=>(const WeightDistribution&) const = default;
};

/// Scales weights so that unit inputs, as norms give, yield unit outputs, and logits of size 2. The
/// embedding is as large as the layers' residual contributions.
WeightDistribution weight_distribution(const SyntheticModel& model, const PlannedTensor& tensor) {
  const TensorSpec& spec = *tensor.spec;
  const float unit = 1 / std::sqrt(static_cast<float>(tensor.k()));
  const bool tied =
      std::none_of(model.tensors.begin(), model.tensors.end(),
                   [](const PlannedTensor& other) { return other.spec->role == Role::lm_head; });
  switch (spec.role) {
    case Role::vector:
      if (spec.gguf.ends_with("norm.weight")) return {1, 0.1f};
      if (spec.gguf.ends_with(".bias")) return {0, 0.1f};
      return {0, 1};  // sinks: logits
    case Role::embedding:
      if (is_always_f32(spec)) return {0, 0.1f};  // positions
      return {0, tied ? 2 * unit : 1};
    case Role::lm_head:
      return {0, 2 * unit};
    case Role::router:
    case Role::dense:
    case Role::expert:
      return {0, unit};
  }
  return {0, unit};
}

/// Random row segments, from which rows are assembled.
class BlockPool {
 public:
  BlockPool(quant::Format format, int64_t k, WeightDistribution distribution, uint64_t seed)
      : traits_(quant::traits(format)) {
    while (k % segment_elements_) segment_elements_ /= 2;
    segment_elements_ = std::max<int64_t>(segment_elements_, traits_.block_elements);
    segment_bytes_ = traits_.row_bytes(segment_elements_);
    data_.resize(kSegments * segment_bytes_);
    parallel_ranges(kSegments, 64, [&](int64_t begin, int64_t end) {
      std::vector<float> values(segment_elements_);
      for (int64_t p = begin; p < end; ++p) {
        for (int64_t i = 0; i < segment_elements_; ++i) {
          values[i] =
              distribution.mean +
              distribution.stddev * normal_variate(splitmix64(~seed), p * segment_elements_ + i);
        }
        traits_.quantize(values.data(), segment_elements_, nullptr, &data_[p * segment_bytes_]);
      }
    });
  }

  /// Fills `rows` rows of k elements; `first` is the tensor row of the first one.
  void fill_rows(uint64_t stream, int64_t first, int64_t rows, int64_t k, std::byte* out) const {
    const int64_t segments = k / segment_elements_;
    parallel_ranges(rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t p = 0; p < segments; ++p) {
          const uint64_t segment = splitmix64(stream + (first + r) * segments + p) % kSegments;
          std::memcpy(out + (r * segments + p) * segment_bytes_, &data_[segment * segment_bytes_],
                      segment_bytes_);
        }
      }
    });
  }

 private:
  static constexpr int64_t kSegments = 4096;

  const quant::FormatTraits& traits_;
  int64_t segment_elements_ = 256;  ///< elements
  int64_t segment_bytes_;           ///< per segment
  std::vector<std::byte> data_;
};

}  // namespace

std::span<const SyntheticShape> synthetic_shapes() {
  return kShapes;
}

const SyntheticShape* find_synthetic_shape(std::string_view name) {
  const auto found = std::find_if(std::begin(kShapes), std::end(kShapes),
                                  [&](const SyntheticShape& shape) { return shape.name == name; });
  return found == std::end(kShapes) ? nullptr : found;
}

SyntheticModel plan_synthetic_model(json::value config, const std::string& where,
                                    const quant::Recipe* recipe, int64_t layers) {
  if (layers > 0 && config.is_object()) {
    json::object& fields = config.as_object();
    for (const char* key : {"num_hidden_layers", "n_layer"}) {
      if (fields.contains(key)) fields[key] = layers;
    }
    fields.erase("layer_types");
  }
  const json::Node node(config, where);
  SyntheticModel model;
  const std::string_view type = node["model_type"].string();
  model.architecture = find_architecture_by_model_type(type);
  if (!model.architecture)
    node["model_type"].fail(fmt::format("is '{}'; mxgpt runs {}", type, supported_architectures()));
  model.config = model.architecture->config_from_checkpoint(node);
  model.config.check(where);
  // Without an output head a model is tied, which is the default in transformers.
  const bool tied = node.boolean_or("tie_word_embeddings", true);
  const bool scaled = !model.config.rope_for(backend::KvGroup::full).freq_factors.empty();
  const auto stored = [&](const TensorSpec& spec, int64_t) -> std::optional<quant::Format> {
    if (spec.refers_to(&Weights::rope_freq_factors) && scaled) return quant::Format::f32;
    if (spec.layout.optional && (tied || spec.role != Role::lm_head)) return {};
    return quant::Format::bf16;
  };
  const bool has_head = std::any_of(
      model.architecture->tensors.begin(), model.architecture->tensors.end(),
      [&](const TensorSpec& spec) { return spec.role == Role::lm_head && stored(spec, 0); });
  const quant::Recipe& formats = recipe ? *recipe : quant::find_recipe("mxfp4-moe");
  model.tensors = plan_tensors(*model.architecture, model.config, stored,
                               recipe_rule(formats, model.config, !has_head));
  return model;
}

void write_synthetic_model(const SyntheticModel& model, uint64_t seed, io::GgufWriter& out,
                           const std::function<void(uint64_t)>& progress) {
  constexpr int64_t kWriteBytes = 16 << 20;
  for (const PlannedTensor& tensor : model.tensors)
    out.add_tensor(tensor.name, tensor.target_format, tensor.shape);
  std::map<std::tuple<quant::Format, int64_t, WeightDistribution>, BlockPool> pools;
  std::vector<std::byte> buffer;
  uint64_t stream = splitmix64(seed);
  for (const PlannedTensor& tensor : model.tensors) {
    stream = splitmix64(stream);
    if (tensor.spec->refers_to(&Weights::rope_freq_factors)) {
      out.write(
          std::as_bytes(std::span(model.config.rope_for(backend::KvGroup::full).freq_factors)));
      progress(tensor.bytes);
      continue;
    }
    const int64_t row_bytes = quant::traits(tensor.target_format).row_bytes(tensor.k());
    const int64_t rows_per_write = std::max<int64_t>(1, kWriteBytes / row_bytes);
    const WeightDistribution distribution = weight_distribution(model, tensor);
    const BlockPool& pool = pools
                                .try_emplace({tensor.target_format, tensor.k(), distribution},
                                             tensor.target_format, tensor.k(), distribution, seed)
                                .first->second;
    for (int64_t row = 0; row < tensor.rows(); row += rows_per_write) {
      const int64_t rows = std::min(rows_per_write, tensor.rows() - row);
      buffer.resize(rows * row_bytes);
      pool.fill_rows(stream, row, rows, tensor.k(), buffer.data());
      out.write(buffer);
      progress(buffer.size());
    }
  }
}

}  // namespace mxgpt::model
