#include "model/convert.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "base/check.h"
#include "base/printable.h"

namespace mxgpt {

namespace {

/// Bytes of a tensor that are converted and written at a time.
constexpr uint64_t kPieceBytes = 16 << 20;

/// What ggml calls its block layouts' version.
constexpr uint32_t kQuantizationVersion = 2;

/// general.file_type of a file whose weights are mostly in this format (llama.cpp, enum
/// llama_ftype).
uint32_t file_type(Format format) {
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
    case Format::q2_k:
      return 10;
    case Format::q3_k:
      return 12;
    case Format::q4_k:
      return 15;
    case Format::q5_k:
      return 17;
    case Format::q6_k:
      return 18;
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

bool is_quantized(Format format) {
  return traits(format).block_elements > 1;
}

int64_t elements(const PlannedTensor& tensor) {
  int64_t product = 1;
  for (const int64_t extent : tensor.shape) product *= extent;
  return product;
}

Format most_common(const std::vector<PlannedTensor>& plan) {
  std::map<Format, int64_t> counts;
  for (const PlannedTensor& tensor : plan) counts[tensor.to] += elements(tensor);
  return std::max_element(counts.begin(), counts.end(),
                          [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

/// Entries of a GGUF file that describe the file rather than the model.
bool is_about_the_file(std::string_view key) {
  return key == "general.alignment" || key == "general.file_type" ||
         key == "general.quantization_version" || key.starts_with("split.") ||
         key.starts_with("mxgpt.source.");
}

/// Converts rows between two formats.
class RowConverter {
 public:
  RowConverter(Format from, Format to, int64_t k)
      : from_(traits(from)),
        to_(traits(to)),
        k_(k),
        scratch_(static_cast<size_t>(omp_get_max_threads()) * 2 * k) {
    MXGPT_CHECK(to_.quantize, "mxgpt does not write {}", to_.name);
  }

  /// Returns how many numbers were finite and no longer are.
  int64_t convert(const std::byte* in, int64_t rows, std::byte* out) {
    int64_t lost = 0;
#pragma omp parallel for schedule(static) reduction(+ : lost)
    for (int64_t r = 0; r < rows; ++r) {
      float* values = &scratch_[static_cast<size_t>(omp_get_thread_num()) * 2 * k_];
      float* back = values + k_;
      std::byte* row = out + r * to_.row_bytes(k_);
      from_.dequantize(in + r * from_.row_bytes(k_), k_, values);
      to_.quantize(values, k_, nullptr, row);
      to_.dequantize(row, k_, back);
      for (int64_t i = 0; i < k_; ++i) lost += std::isfinite(values[i]) && !std::isfinite(back[i]);
    }
    return lost;
  }

 private:
  const FormatTraits& from_;
  const FormatTraits& to_;
  int64_t k_;
  std::vector<float> scratch_;  ///< [threads][2][k]
};

}  // namespace

FormatRule dense_rule(Format dense) {
  return [dense](const TensorSpec& spec, Format from) {
    switch (spec.role) {
      case Role::vector:
      case Role::router:
        return Format::f32;
      case Role::expert:
        return is_quantized(from) ? from : dense;
      case Role::embedding:
      case Role::dense:
      case Role::head:
        return dense;
    }
    return dense;
  };
}

std::vector<PlannedTensor> plan_tensors(const Model& model, const FormatRule& rule) {
  const Config& config = model.config();
  std::vector<PlannedTensor> plan;
  const auto add = [&](const TensorSpec& spec, int64_t layer) {
    PlannedTensor tensor{.spec = &spec,
                         .layer = layer,
                         .name = spec.gguf_name(layer),
                         .from = model.stored_format(spec, layer),
                         .shape = spec.shape(config)};
    tensor.to = rule(spec, tensor.from);
    if (tensor.shape.back() % traits(tensor.to).block_elements != 0) {
      tensor.to = Format::bf16;
      tensor.fallback = true;
    }
    const int64_t k = tensor.shape.back();
    tensor.bytes = static_cast<uint64_t>(elements(tensor) / k * traits(tensor.to).row_bytes(k));
    plan.push_back(std::move(tensor));
  };
  // As files of the field have it: what belongs to no layer, then layer by layer.
  for (const TensorSpec& spec : model.architecture().tensors) {
    if (!spec.per_layer()) add(spec, 0);
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (const TensorSpec& spec : model.architecture().tensors) {
      if (spec.per_layer()) add(spec, layer);
    }
  }
  return plan;
}

void describe_model(const Model& model, const std::vector<PlannedTensor>& plan,
                    const std::string& source_sha256, GgufWriter& out) {
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
  out.add<uint32_t>("general.file_type", file_type(most_common(plan)));
  out.add<uint32_t>("general.quantization_version", kQuantizationVersion);
  const auto source = std::filesystem::canonical(model.path()).filename();
  out.add<std::string_view>("mxgpt.source.name", printable(source.string()));
  out.add<std::string_view>("mxgpt.source.sha256", source_sha256);
}

std::vector<OutOfRange> write_tensors(const Model& model, const std::vector<PlannedTensor>& plan,
                                      GgufWriter& out,
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
      continue;
    }
    const int64_t k = tensor.shape.back(), rows = elements(tensor) / k;
    const int64_t from_bytes = traits(tensor.from).row_bytes(k),
                  to_bytes = traits(tensor.to).row_bytes(k);
    const int64_t at_a_time = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes) / to_bytes);
    RowConverter converter(tensor.from, tensor.to, k);
    int64_t lost_here = 0;
    for (int64_t row = 0; row < rows; row += at_a_time) {
      const int64_t count = std::min(at_a_time, rows - row);
      piece.resize(count * to_bytes);
      lost_here += converter.convert(stored.bytes.data() + row * from_bytes, count, piece.data());
      write(piece);
    }
    if (lost_here > 0) lost.push_back({tensor.name, lost_here});
  }
  return lost;
}

}  // namespace mxgpt
