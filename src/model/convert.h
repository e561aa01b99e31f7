// Writes a model's tensors into a GGUF file, each in the format that a rule chooses: what `mxgpt
// convert` and every quantizer share. Memory stays bounded by one tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/gguf_writer.h"
#include "model/model.h"

namespace mxgpt {

struct PlannedTensor {
  const TensorSpec* spec;
  int64_t layer;
  std::string name;  ///< in the GGUF file
  Format from;
  Format wanted;  ///< by the rule
  Format to;      ///< another than `wanted` where blocks of that do not divide the rows
  std::vector<int64_t> shape;
  uint64_t bytes;  ///< in format `to`

  int64_t k() const { return shape.back(); }
  /// Matrices, one below the other; a vector is a row.
  int64_t rows() const;
  int64_t elements() const { return rows() * k(); }
  /// Experts have rows of their own and an importance of their own.
  int64_t slices() const { return shape.size() == 3 ? shape[0] : 1; }
};

bool is_quantized(Format format);
double bits_per_weight(Format format);

/// Vectors, the router and learned positions: small, and f32 in every file of this kind.
bool is_always_f32(const TensorSpec& spec);

/// `wanted`, or what takes its place where its blocks do not divide rows of k. The choice is
/// llama.cpp's; where even blocks of 32 do not fit, it is bf16.
Format fitting_format(Format wanted, int64_t k);

/// The format that a tensor, stored in `from`, is to have.
using FormatRule = std::function<Format(const TensorSpec& spec, int64_t layer, Format from)>;

/// What is always f32 in f32, quantized experts as they are, everything else in `dense`.
FormatRule dense_rule(Format dense);

/// The format in which a model has a tensor; empty if it is without that (TensorSpec, optional).
using StoredFormat = std::function<std::optional<Format>(const TensorSpec& spec, int64_t layer)>;

/// All tensors of the model: those of no layer, then layer by layer, in the format that fits best.
/// Touches no weights; throws Error if a tensor is missing or is not as it must be.
std::vector<PlannedTensor> plan_tensors(const Model& model, const FormatRule& rule);
/// Likewise for a model that is only described.
std::vector<PlannedTensor> plan_tensors(const Architecture& architecture, const Config& config,
                                        const StoredFormat& stored, const FormatRule& rule);

/// general.file_type of a file whose weights are all, or mostly, in this format.
uint32_t file_type_of(Format format);
/// That of the format in which most weights are.
uint32_t file_type_of(const std::vector<PlannedTensor>& plan);

/// general.file_type, and what belongs to it.
void describe_quantization(uint32_t file_type, GgufWriter& out);

/// The metadata of the model and of where it comes from; `source_sha256` is
/// model_sha256(model.path()). Of a checkpoint, all but the tokenizer. From a GGUF file, all that
/// it has is taken over, the tokenizer included.
void describe_model(const Model& model, uint32_t file_type, const std::string& source_sha256,
                    GgufWriter& out);

/// Weights of the squared errors of a slice's columns, [k], or null where there are none: what
/// FormatTraits::quantize takes.
using ImportanceOf = std::function<const float*(const PlannedTensor& tensor, int64_t slice)>;

/// Numbers that a tensor's new format cannot hold: finite before, not afterwards.
struct OutOfRange {
  std::string name;
  Format format;
  int64_t elements;
};

/// Declares and writes the planned tensors, on all cores. Bytes of tensors that keep their format
/// stay as they are. `importance` may be empty. `progress` is called with the number of bytes just
/// written.
std::vector<OutOfRange> write_tensors(const Model& model, const std::vector<PlannedTensor>& plan,
                                      const ImportanceOf& importance, GgufWriter& out,
                                      const std::function<void(uint64_t)>& progress);

}  // namespace mxgpt
