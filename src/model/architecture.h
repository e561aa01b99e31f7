// Interface of a model architecture. model/registry.h lists all of them.
#pragma once

#include <span>
#include <string>

#include "backend/backend.h"
#include "base/json.h"
#include "io/gguf_metadata.h"
#include "io/gguf_writer.h"
#include "model/registry.h"
#include "model/run_state.h"
#include "model/tensor_table.h"

namespace mxgpt::model {

struct Architecture {
  std::string_view gguf;                          ///< general.architecture: "gpt-oss"
  std::span<const std::string_view> model_types;  ///< model_type in config.json: "gpt_oss"
  std::span<const TensorSpec> tensors;
  /// Prefix that checkpoints may omit from tensor names: "transformer."
  std::string_view checkpoint_prefix = {};
  Config (*config_from_gguf)(const io::GgufMetadata& metadata);
  Config (*config_from_checkpoint)(const json::Node& config);
  /// Writes the GGUF metadata for `config`, without the tokenizer.
  void (*write_gguf_metadata)(const Config& config, io::GgufWriter& out);
  /// Enqueues the blocks of one step on a backend.
  void (*forward)(backend::Backend& b, const Config& config, const Weights& weights,
                  const RunState& state);
};

namespace architectures {
#define MXGPT_DECLARE(name) extern const Architecture name;
MXGPT_ARCHITECTURES(MXGPT_DECLARE)
#undef MXGPT_DECLARE
}  // namespace architectures

/// Null for an unknown architecture.
const Architecture* find_architecture_by_gguf_name(std::string_view name);
const Architecture* find_architecture_by_model_type(std::string_view name);
/// "gpt-oss, …", for error messages.
std::string supported_architectures();

}  // namespace mxgpt::model
