// Writes the tensors of a model to a GGUF file, each in the format that a rule chooses. Shared by
// `mxgpt convert` and `mxgpt quantize`. Memory use is bounded by one tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/gguf_writer.h"
#include "model/weight_loader.h"

namespace mxgpt::model {

struct PlannedTensor {
  const TensorSpec* spec;
  int64_t layer;
  std::string name;  ///< in the GGUF file
  quant::Format source_format;
  quant::Format requested_format;  ///< by the rule
  quant::Format
      target_format;  ///< fallback if the row length is not a multiple of the requested block
  std::vector<int64_t> shape;
  uint64_t bytes;  ///< in target_format

  TensorRef ref() const { return {spec, layer}; }
  int64_t k() const { return shape.back(); }
  /// Rows of all matrices; a vector is one row.
  int64_t rows() const;
  int64_t elements() const { return rows() * k(); }
  /// Experts have rows of their own and an importance of their own.
  int64_t num_experts() const { return shape.size() == 3 ? shape[0] : 1; }
};

bool is_quantized(quant::Format format);
double bits_per_weight(quant::Format format);

/// Vectors, the router and learned positions: small, and f32 in all GGUF files.
bool is_always_f32(const TensorSpec& spec);

/// `wanted`, or its replacement if k is not a multiple of its block. The choice is that of
/// llama.cpp, or bf16 if k is not a multiple of 32.
quant::Format fallback_format(quant::Format wanted, int64_t k);

/// Chooses the format of a tensor that is stored in `from`.
using FormatRule =
    std::function<quant::Format(const TensorSpec& spec, int64_t layer, quant::Format from)>;

/// Keeps always-f32 tensors and quantized experts; stores everything else in `dense`.
FormatRule dense_format_rule(quant::Format dense);

/// The stored format of a tensor; empty if the model lacks the optional tensor.
using StoredFormatLookup =
    std::function<std::optional<quant::Format>(const TensorSpec& spec, int64_t layer)>;

/// Plans all tensors of the model: those outside the layers, then layer by layer. Reads no weights.
/// Throws Error if a tensor is missing or invalid.
std::vector<PlannedTensor> plan_tensors(const ModelFile& model, const FormatRule& rule);
/// Plans the tensors of a model without a file.
std::vector<PlannedTensor> plan_tensors(const Architecture& architecture, const Config& config,
                                        const StoredFormatLookup& stored, const FormatRule& rule);

/// general.file_type for a file whose weights are mostly in this format.
uint32_t gguf_file_type(quant::Format format);
/// general.file_type for the most common format by weights.
uint32_t gguf_file_type(const std::vector<PlannedTensor>& plan);

/// Writes general.file_type and general.quantization_version.
void write_quantization_metadata(uint32_t file_type, io::GgufWriter& out);

/// Writes the metadata of the model and its source; `source_sha256` is model_sha256(model.path()).
/// Metadata of a GGUF file is copied, tokenizer included; for a checkpoint the tokenizer is left
/// out.
void write_model_metadata(const ModelFile& model, uint32_t file_type,
                          const std::string& source_sha256, io::GgufWriter& out);

/// Weights of squared errors per column of an expert, [k], or null; see FormatTraits::quantize.
using ImportanceLookup = std::function<const float*(const PlannedTensor& tensor, int64_t slice)>;

/// Finite values that the target format cannot represent.
struct FormatOverflow {
  std::string name;
  quant::Format format;
  int64_t elements;
};

/// Declares and writes the planned tensors, on all cores. Bytes of tensors that keep their format
/// stay as they are. `importance` may be empty. `progress` is called with the number of bytes just
/// written.
std::vector<FormatOverflow> write_tensors(const ModelFile& model,
                                          const std::vector<PlannedTensor>& plan,
                                          const ImportanceLookup& importance, io::GgufWriter& out,
                                          const std::function<void(uint64_t)>& progress);

}  // namespace mxgpt::model
