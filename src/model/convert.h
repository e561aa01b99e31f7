// Writes a model's tensors into a GGUF file, each in the format that a rule chooses: what `mxgpt
// convert` and every quantizer share. Memory stays bounded by one tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/gguf_writer.h"
#include "model/model.h"

namespace mxgpt {

struct PlannedTensor {
  const TensorSpec* spec;
  int64_t layer;
  std::string name;  ///< in the GGUF file
  Format from, to;
  std::vector<int64_t> shape;
  uint64_t bytes;         ///< in format `to`
  bool fallback = false;  ///< the rule asked for a format whose blocks do not divide the rows
};

/// The format that a tensor, stored in `from`, is to have.
using FormatRule = std::function<Format(const TensorSpec& spec, Format from)>;

/// Vectors and the router in f32, quantized experts as they are, everything else in `dense`.
FormatRule dense_rule(Format dense);

/// All tensors of the model: those of no layer, then layer by layer. A format whose blocks do not
/// divide the rows is replaced by bf16. Touches no weights; throws Error if a tensor is missing or
/// is not as it must be.
std::vector<PlannedTensor> plan_tensors(const Model& model, const FormatRule& rule);

/// The metadata of the model and of where it comes from; `source_sha256` is
/// model_sha256(model.path()). Of a checkpoint, all but the tokenizer. From a GGUF file, all that
/// it has is taken over, the tokenizer included.
void describe_model(const Model& model, const std::vector<PlannedTensor>& plan,
                    const std::string& source_sha256, GgufWriter& out);

/// Numbers that a tensor's new format cannot hold: finite before, not afterwards.
struct OutOfRange {
  std::string name;
  int64_t elements;
};

/// Declares and writes the planned tensors, on all cores. Bytes of tensors that keep their format
/// stay as they are. `progress` is called with the number of bytes just written.
std::vector<OutOfRange> write_tensors(const Model& model, const std::vector<PlannedTensor>& plan,
                                      GgufWriter& out,
                                      const std::function<void(uint64_t)>& progress);

}  // namespace mxgpt
