// Writes a model's tensors into a GGUF file, each in the format that a rule chooses: what `mxgpt
// convert` and every quantizer share. Memory stays bounded by one tensor.
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
      target_format;  ///< another than `wanted` where blocks of that do not divide the rows
  std::vector<int64_t> shape;
  uint64_t bytes;  ///< in format `to`

  TensorRef ref() const { return {spec, layer}; }
  int64_t k() const { return shape.back(); }
  /// Matrices, one below the other; a vector is a row.
  int64_t rows() const;
  int64_t elements() const { return rows() * k(); }
  /// Experts have rows of their own and an importance of their own.
  int64_t num_experts() const { return shape.size() == 3 ? shape[0] : 1; }
};

bool is_quantized(quant::Format format);
double bits_per_weight(quant::Format format);

/// Vectors, the router and learned positions: small, and f32 in every file of this kind.
bool is_always_f32(const TensorSpec& spec);

/// `wanted`, or what takes its place where its blocks do not divide rows of k. The choice is
/// llama.cpp's; where even blocks of 32 do not fit, it is bf16.
quant::Format fallback_format(quant::Format wanted, int64_t k);

/// The format that a tensor, stored in `from`, is to have.
using FormatRule =
    std::function<quant::Format(const TensorSpec& spec, int64_t layer, quant::Format from)>;

/// What is always f32 in f32, quantized experts as they are, everything else in `dense`.
FormatRule dense_format_rule(quant::Format dense);

/// The format in which a model has a tensor; empty if it is without that (TensorSpec, optional).
using StoredFormatLookup =
    std::function<std::optional<quant::Format>(const TensorSpec& spec, int64_t layer)>;

/// All tensors of the model: those of no layer, then layer by layer, in the format that fits best.
/// Touches no weights; throws Error if a tensor is missing or is not as it must be.
std::vector<PlannedTensor> plan_tensors(const ModelFile& model, const FormatRule& rule);
/// Likewise for a model that is only described.
std::vector<PlannedTensor> plan_tensors(const Architecture& architecture, const Config& config,
                                        const StoredFormatLookup& stored, const FormatRule& rule);

/// general.file_type of a file whose weights are all, or mostly, in this format.
uint32_t gguf_file_type(quant::Format format);
/// That of the format in which most weights are.
uint32_t gguf_file_type(const std::vector<PlannedTensor>& plan);

/// general.file_type, and what belongs to it.
void write_quantization_metadata(uint32_t file_type, io::GgufWriter& out);

/// The metadata of the model and of where it comes from; `source_sha256` is
/// model_sha256(model.path()). Of a checkpoint, all but the tokenizer. From a GGUF file, all that
/// it has is taken over, the tokenizer included.
void write_model_metadata(const ModelFile& model, uint32_t file_type,
                          const std::string& source_sha256, io::GgufWriter& out);

/// Weights of the squared errors of a slice's columns, [k], or null where there are none: what
/// FormatTraits::quantize takes.
using ImportanceLookup = std::function<const float*(const PlannedTensor& tensor, int64_t slice)>;

/// Numbers that a tensor's new format cannot hold: finite before, not afterwards.
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
