#include "model/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string_view>

#include "base/check.h"
#include "base/escape.h"
#include "base/thread_pool.h"

namespace mxgpt::model {

namespace {

/// Bytes converted and written at once.
constexpr uint64_t kChunkBytes = 16 << 20;

/// Version of the block layouts of ggml.
constexpr uint32_t kQuantizationVersion = 2;

/// Entries of a GGUF file that describe the file rather than the model.
bool is_file_metadata(std::string_view key) {
  return key == "general.alignment" || key == "general.file_type" ||
         key == "general.quantization_version" || key.starts_with("split.") ||
         key.starts_with("quantize.imatrix.") || key.starts_with("mxgpt.source.");
}

/// Converts a tensor's rows from one format to another.
class RowConverter {
 public:
  RowConverter(const PlannedTensor& tensor, const ImportanceLookup& importance)
      : from_(quant::traits(tensor.source_format)),
        to_(quant::traits(tensor.target_format)),
        k_(tensor.k()),
        expert_rows_(tensor.rows() / tensor.num_experts()) {
    MXGPT_CHECK(to_.quantize, "mxgpt does not write {}", to_.name);
    for (int64_t expert = 0; expert < tensor.num_experts(); ++expert) {
      importance_.push_back(importance ? importance(tensor, expert) : nullptr);
    }
  }

  /// Converts `rows` rows from row `first` of the tensor. Returns how many finite values
  /// overflowed.
  int64_t convert(const std::byte* in, int64_t first, int64_t rows, std::byte* out) {
    std::atomic<int64_t> overflowed = 0;
    parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> values(k_), round_trip(k_);
      int64_t local_overflowed = 0;
      for (int64_t r = begin; r < end; ++r) {
        std::byte* row = out + r * to_.row_bytes(k_);
        from_.dequantize(in + r * from_.row_bytes(k_), k_, values.data());
        to_.quantize(values.data(), k_, importance_[(first + r) / expert_rows_], row);
        to_.dequantize(row, k_, round_trip.data());
        for (int64_t i = 0; i < k_; ++i)
          local_overflowed += std::isfinite(values[i]) && !std::isfinite(round_trip[i]);
      }
      overflowed += local_overflowed;
    });
    return overflowed;
  }

 private:
  const quant::FormatTraits& from_;
  const quant::FormatTraits& to_;
  int64_t k_, expert_rows_;
  std::vector<const float*> importance_;  ///< [slices]
};

}  // namespace

int64_t PlannedTensor::rows() const {
  int64_t product = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

bool is_quantized(quant::Format format) {
  return quant::traits(format).block_elements > 1;
}

double bits_per_weight(quant::Format format) {
  return 8.0 * quant::traits(format).block_bytes / quant::traits(format).block_elements;
}

bool is_always_f32(const TensorSpec& spec) {
  const auto* member = std::get_if<backend::Tensor Weights::*>(&spec.member);
  return spec.role == Role::vector || spec.role == Role::router ||
         (member && *member == &Weights::position_embedding);
}

// llama.cpp, src/llama-quant.cpp: tensor_type_fallback.
quant::Format fallback_format(quant::Format wanted, int64_t k) {
  const auto fits = [k](quant::Format format) {
    return k % quant::traits(format).block_elements == 0;
  };
  if (fits(wanted)) return wanted;
  quant::Format fallback = quant::Format::bf16;
  switch (wanted) {
    case quant::Format::q2_k:
    case quant::Format::q3_k:
      fallback = quant::Format::q4_0;
      break;
    case quant::Format::q4_k:
      fallback = quant::Format::q5_0;
      break;
    case quant::Format::q5_k:
      fallback = quant::Format::q5_1;
      break;
    case quant::Format::q6_k:
      fallback = quant::Format::q8_0;
      break;
    case quant::Format::iq4_xs:
      fallback = quant::Format::iq4_nl;
      break;
    default:
      break;
  }
  return fits(fallback) ? fallback : quant::Format::bf16;
}

FormatRule dense_format_rule(quant::Format dense) {
  return [dense](const TensorSpec& spec, int64_t, quant::Format from) {
    if (is_always_f32(spec)) return quant::Format::f32;
    return spec.role == Role::expert && is_quantized(from) ? from : dense;
  };
}

std::vector<PlannedTensor> plan_tensors(const ModelFile& model, const FormatRule& rule) {
  const auto stored = [&](const TensorSpec& spec, int64_t layer) -> std::optional<quant::Format> {
    const TensorRef tensor{&spec, layer};
    if (!model.has(tensor)) return {};
    return model.stored_format(tensor);
  };
  return plan_tensors(model.architecture(), model.config(), stored, rule);
}

std::vector<PlannedTensor> plan_tensors(const Architecture& architecture, const Config& config,
                                        const StoredFormatLookup& stored, const FormatRule& rule) {
  // The usual order of GGUF files: tensors outside the layers, then layer by layer.
  std::vector<TensorRef> refs = tensor_refs(architecture.tensors, config);
  std::stable_sort(refs.begin(), refs.end(), [](const TensorRef& a, const TensorRef& b) {
    const auto position = [](const TensorRef& t) { return t.spec->per_layer() ? t.layer + 1 : 0; };
    return position(a) < position(b);
  });
  std::vector<PlannedTensor> plan;
  for (const TensorRef& ref : refs) {
    const std::optional<quant::Format> from = stored(*ref.spec, ref.layer);
    if (!from) continue;
    PlannedTensor tensor{.spec = ref.spec,
                         .layer = ref.layer,
                         .name = ref.gguf_name(),
                         .source_format = *from,
                         .shape = ref.spec->shape(config)};
    tensor.requested_format = rule(*ref.spec, ref.layer, tensor.source_format);
    tensor.target_format = fallback_format(tensor.requested_format, tensor.k());
    tensor.bytes = static_cast<uint64_t>(tensor.rows() *
                                         quant::traits(tensor.target_format).row_bytes(tensor.k()));
    plan.push_back(std::move(tensor));
  }
  return plan;
}

// llama.cpp, include/llama.h: enum llama_ftype. Of K-quants, the kind that has them everywhere.
uint32_t gguf_file_type(quant::Format format) {
  switch (format) {
    case quant::Format::f32:
      return 0;
    case quant::Format::f16:
      return 1;
    case quant::Format::q4_0:
      return 2;
    case quant::Format::q4_1:
      return 3;
    case quant::Format::q8_0:
      return 7;
    case quant::Format::q5_0:
      return 8;
    case quant::Format::q5_1:
      return 9;
    case quant::Format::q3_k:
      return 11;
    case quant::Format::q4_k:
      return 14;
    case quant::Format::q5_k:
      return 16;
    case quant::Format::q6_k:
      return 18;
    case quant::Format::q2_k:
      return 21;
    case quant::Format::iq4_nl:
      return 25;
    case quant::Format::iq4_xs:
      return 30;
    case quant::Format::bf16:
      return 32;
    case quant::Format::mxfp4:
      return 38;
  }
  return 0;
}

uint32_t gguf_file_type(const std::vector<PlannedTensor>& plan) {
  std::map<quant::Format, int64_t> elements;
  for (const PlannedTensor& tensor : plan) elements[tensor.target_format] += tensor.elements();
  return gguf_file_type(std::max_element(elements.begin(), elements.end(), [](auto& a, auto& b) {
                          return a.second < b.second;
                        })->first);
}

void write_quantization_metadata(uint32_t file_type, io::GgufWriter& out) {
  out.add<uint32_t>("general.file_type", file_type);
  out.add<uint32_t>("general.quantization_version", kQuantizationVersion);
}

void write_model_metadata(const ModelFile& model, uint32_t file_type,
                          const std::string& source_sha256, io::GgufWriter& out) {
  if (const io::GgufFile* source = model.gguf()) {
    for (const auto& [key, value] : source->metadata().entries()) {
      if (!is_file_metadata(key)) out.add(key, value);
    }
  } else {
    out.add<std::string_view>("general.architecture", model.architecture().gguf);
    out.add<std::string_view>("general.type", "model");
    out.add<std::string_view>("general.name", escape_for_terminal(model.config().name));
    model.architecture().write_gguf_metadata(model.config(), out);
  }
  write_quantization_metadata(file_type, out);
  const auto source = std::filesystem::canonical(model.path()).filename();
  out.add<std::string_view>("mxgpt.source.name", escape_for_terminal(source.string()));
  out.add<std::string_view>("mxgpt.source.sha256", source_sha256);
}

std::vector<FormatOverflow> write_tensors(const ModelFile& model,
                                          const std::vector<PlannedTensor>& plan,
                                          const ImportanceLookup& importance, io::GgufWriter& out,
                                          const std::function<void(uint64_t)>& progress) {
  for (const PlannedTensor& tensor : plan)
    out.add_tensor(tensor.name, tensor.target_format, tensor.shape);
  const auto write = [&](std::span<const std::byte> bytes) {
    out.write(bytes);
    progress(bytes.size());
  };
  std::vector<FormatOverflow> overflowed;
  std::vector<std::byte> chunk;
  for (const PlannedTensor& tensor : plan) {
    const HostTensor stored = read_tensor(model, tensor.ref());
    if (tensor.source_format == tensor.target_format) {
      for (auto left = stored.bytes; !left.empty();) {
        const auto next = left.first(std::min<size_t>(left.size(), kChunkBytes));
        write(next);
        left = left.subspan(next.size());
      }
    } else {
      const int64_t from_bytes = quant::traits(tensor.source_format).row_bytes(tensor.k()),
                    to_bytes = quant::traits(tensor.target_format).row_bytes(tensor.k());
      const int64_t chunk_rows = std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes) / to_bytes);
      RowConverter converter(tensor, importance);
      int64_t tensor_overflowed = 0;
      for (int64_t row = 0; row < tensor.rows(); row += chunk_rows) {
        const int64_t count = std::min(chunk_rows, tensor.rows() - row);
        chunk.resize(count * to_bytes);
        tensor_overflowed +=
            converter.convert(stored.bytes.data() + row * from_bytes, row, count, chunk.data());
        write(chunk);
      }
      if (tensor_overflowed > 0)
        overflowed.push_back({tensor.name, tensor.target_format, tensor_overflowed});
    }
    // Mapped file pages count as resident memory.
    model.release_pages(tensor.ref());
  }
  return overflowed;
}

}  // namespace mxgpt::model
