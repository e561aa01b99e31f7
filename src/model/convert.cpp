#include "model/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string_view>

#include "base/check.h"
#include "base/printable.h"
#include "base/threads.h"

namespace mxgpt {

namespace {

/// Bytes of a tensor that are converted and written at a time.
constexpr uint64_t kPieceBytes = 16 << 20;

/// What ggml calls its block layouts' version.
constexpr uint32_t kQuantizationVersion = 2;

/// Entries of a GGUF file that describe the file rather than the model.
bool is_about_the_file(std::string_view key) {
  return key == "general.alignment" || key == "general.file_type" ||
         key == "general.quantization_version" || key.starts_with("split.") ||
         key.starts_with("quantize.imatrix.") || key.starts_with("mxgpt.source.");
}

/// Converts a tensor's rows from one format to another.
class RowConverter {
 public:
  RowConverter(const PlannedTensor& tensor, const ImportanceOf& importance)
      : from_(traits(tensor.from)),
        to_(traits(tensor.to)),
        k_(tensor.k()),
        slice_rows_(tensor.rows() / tensor.slices()) {
    MXGPT_CHECK(to_.quantize, "mxgpt does not write {}", to_.name);
    for (int64_t slice = 0; slice < tensor.slices(); ++slice) {
      importance_.push_back(importance ? importance(tensor, slice) : nullptr);
    }
  }

  /// Converts `rows` rows, the first of which is the tensor's row `first`. Returns how many numbers
  /// were finite and no longer are.
  int64_t convert(const std::byte* in, int64_t first, int64_t rows, std::byte* out) {
    std::atomic<int64_t> lost = 0;
    parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> values(k_), back(k_);
      int64_t lost_here = 0;
      for (int64_t r = begin; r < end; ++r) {
        std::byte* row = out + r * to_.row_bytes(k_);
        from_.dequantize(in + r * from_.row_bytes(k_), k_, values.data());
        to_.quantize(values.data(), k_, importance_[(first + r) / slice_rows_], row);
        to_.dequantize(row, k_, back.data());
        for (int64_t i = 0; i < k_; ++i)
          lost_here += std::isfinite(values[i]) && !std::isfinite(back[i]);
      }
      lost += lost_here;
    });
    return lost;
  }

 private:
  const FormatTraits& from_;
  const FormatTraits& to_;
  int64_t k_, slice_rows_;
  std::vector<const float*> importance_;  ///< [slices]
};

}  // namespace

int64_t PlannedTensor::rows() const {
  int64_t product = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

bool is_quantized(Format format) {
  return traits(format).block_elements > 1;
}

double bits_per_weight(Format format) {
  return 8.0 * traits(format).block_bytes / traits(format).block_elements;
}

bool is_always_f32(const TensorSpec& spec) {
  const auto* member = std::get_if<Tensor Weights::*>(&spec.member);
  return spec.role == Role::vector || spec.role == Role::router ||
         (member && *member == &Weights::positions);
}

// llama.cpp, src/llama-quant.cpp: tensor_type_fallback.
Format fitting_format(Format wanted, int64_t k) {
  const auto fits = [k](Format format) { return k % traits(format).block_elements == 0; };
  if (fits(wanted)) return wanted;
  Format instead = Format::bf16;
  switch (wanted) {
    case Format::q2_k:
    case Format::q3_k:
      instead = Format::q4_0;
      break;
    case Format::q4_k:
      instead = Format::q5_0;
      break;
    case Format::q5_k:
      instead = Format::q5_1;
      break;
    case Format::q6_k:
      instead = Format::q8_0;
      break;
    case Format::iq4_xs:
      instead = Format::iq4_nl;
      break;
    default:
      break;
  }
  return fits(instead) ? instead : Format::bf16;
}

FormatRule dense_rule(Format dense) {
  return [dense](const TensorSpec& spec, int64_t, Format from) {
    if (is_always_f32(spec)) return Format::f32;
    return spec.role == Role::expert && is_quantized(from) ? from : dense;
  };
}

std::vector<PlannedTensor> plan_tensors(const Model& model, const FormatRule& rule) {
  const auto stored = [&](const TensorSpec& spec, int64_t layer) -> std::optional<Format> {
    if (!model.has(spec, layer)) return {};
    return model.stored_format(spec, layer);
  };
  return plan_tensors(model.architecture(), model.config(), stored, rule);
}

std::vector<PlannedTensor> plan_tensors(const Architecture& architecture, const Config& config,
                                        const StoredFormat& stored, const FormatRule& rule) {
  std::vector<PlannedTensor> plan;
  const auto add = [&](const TensorSpec& spec, int64_t layer) {
    const std::optional<Format> from = stored(spec, layer);
    if (!from) return;
    PlannedTensor tensor{.spec = &spec,
                         .layer = layer,
                         .name = spec.gguf_name(layer),
                         .from = *from,
                         .shape = spec.shape(config)};
    tensor.wanted = rule(spec, layer, tensor.from);
    tensor.to = fitting_format(tensor.wanted, tensor.k());
    tensor.bytes = static_cast<uint64_t>(tensor.rows() * traits(tensor.to).row_bytes(tensor.k()));
    plan.push_back(std::move(tensor));
  };
  // As files of the field have it: what belongs to no layer, then layer by layer.
  for (const TensorSpec& spec : architecture.tensors) {
    if (!spec.per_layer()) add(spec, 0);
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (const TensorSpec& spec : architecture.tensors) {
      if (spec.per_layer()) add(spec, layer);
    }
  }
  return plan;
}

// llama.cpp, include/llama.h: enum llama_ftype. Of K-quants, the kind that has them everywhere.
uint32_t file_type_of(Format format) {
  switch (format) {
    case Format::f32:
      return 0;
    case Format::f16:
      return 1;
    case Format::q4_0:
      return 2;
    case Format::q4_1:
      return 3;
    case Format::q8_0:
      return 7;
    case Format::q5_0:
      return 8;
    case Format::q5_1:
      return 9;
    case Format::q3_k:
      return 11;
    case Format::q4_k:
      return 14;
    case Format::q5_k:
      return 16;
    case Format::q6_k:
      return 18;
    case Format::q2_k:
      return 21;
    case Format::iq4_nl:
      return 25;
    case Format::iq4_xs:
      return 30;
    case Format::bf16:
      return 32;
    case Format::mxfp4:
      return 38;
  }
  return 0;
}

uint32_t file_type_of(const std::vector<PlannedTensor>& plan) {
  std::map<Format, int64_t> elements;
  for (const PlannedTensor& tensor : plan) elements[tensor.to] += tensor.elements();
  return file_type_of(std::max_element(elements.begin(), elements.end(), [](auto& a, auto& b) {
                        return a.second < b.second;
                      })->first);
}

void describe_quantization(uint32_t file_type, GgufWriter& out) {
  out.add<uint32_t>("general.file_type", file_type);
  out.add<uint32_t>("general.quantization_version", kQuantizationVersion);
}

void describe_model(const Model& model, uint32_t file_type, const std::string& source_sha256,
                    GgufWriter& out) {
  if (const GgufFile* source = model.gguf()) {
    for (const auto& [key, value] : source->metadata().entries()) {
      if (!is_about_the_file(key)) out.add(key, value);
    }
  } else {
    out.add<std::string_view>("general.architecture", model.architecture().gguf);
    out.add<std::string_view>("general.type", "model");
    out.add<std::string_view>("general.name", printable(model.config().name));
    model.architecture().describe(model.config(), out);
  }
  describe_quantization(file_type, out);
  const auto source = std::filesystem::canonical(model.path()).filename();
  out.add<std::string_view>("mxgpt.source.name", printable(source.string()));
  out.add<std::string_view>("mxgpt.source.sha256", source_sha256);
}

std::vector<OutOfRange> write_tensors(const Model& model, const std::vector<PlannedTensor>& plan,
                                      const ImportanceOf& importance, GgufWriter& out,
                                      const std::function<void(uint64_t)>& progress) {
  for (const PlannedTensor& tensor : plan) out.add_tensor(tensor.name, tensor.to, tensor.shape);
  const auto write = [&](std::span<const std::byte> bytes) {
    out.write(bytes);
    progress(bytes.size());
  };
  std::vector<OutOfRange> lost;
  std::vector<std::byte> piece;
  for (const PlannedTensor& tensor : plan) {
    const HostTensor stored = model.read(*tensor.spec, tensor.layer);
    if (tensor.from == tensor.to) {
      for (auto left = stored.bytes; !left.empty();) {
        const auto next = left.first(std::min<size_t>(left.size(), kPieceBytes));
        write(next);
        left = left.subspan(next.size());
      }
    } else {
      const int64_t from_bytes = traits(tensor.from).row_bytes(tensor.k()),
                    to_bytes = traits(tensor.to).row_bytes(tensor.k());
      const int64_t at_a_time = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes) / to_bytes);
      RowConverter converter(tensor, importance);
      int64_t lost_here = 0;
      for (int64_t row = 0; row < tensor.rows(); row += at_a_time) {
        const int64_t count = std::min(at_a_time, tensor.rows() - row);
        piece.resize(count * to_bytes);
        lost_here +=
            converter.convert(stored.bytes.data() + row * from_bytes, row, count, piece.data());
        write(piece);
      }
      if (lost_here > 0) lost.push_back({tensor.name, tensor.to, lost_here});
    }
    // Pages of the file that stay mapped would count as this program's memory.
    model.release(*tensor.spec, tensor.layer);
  }
  return lost;
}

}  // namespace mxgpt
