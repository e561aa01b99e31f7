// A model opened from a GGUF file or a checkpoint directory: its configuration, and where each of
// its tensors is stored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/architecture.h"
#include "model/tensor_table.h"

namespace mxgpt::model {

/// Owns the mapped files. Immutable. Weights stay in the files; model/weight_loader.h reads them.
class ModelFile {
 public:
  /// Reads and checks the configuration and the names of the tensors. Throws Error if the path is
  /// neither a GGUF file nor a checkpoint directory, the architecture is unknown, the configuration
  /// is invalid, or the file has a tensor that the architecture does not.
  explicit ModelFile(const std::filesystem::path& path);
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const Architecture& architecture() const { return *architecture_; }
  const Config& config() const { return config_; }
  /// The GGUF file; null for a checkpoint.
  const io::GgufFile* gguf() const { return gguf_.get(); }
  /// End-of-generation tokens, as generation_config.json, config.json or the GGUF tokenizer name
  /// them.
  const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }

  /// All tensors of the model, without optional ones that the file lacks.
  std::vector<TensorRef> tensors() const;
  bool has(const TensorRef& tensor) const;
  /// The format in which read_tensor() returns the tensor. Throws Error as source() does.
  quant::Format stored_format(const TensorRef& tensor) const;

  /// A checkpoint may hold a tensor as numbers of its configuration (RoPE frequency factors).
  bool is_derived_from_config(const TensorRef& tensor) const;
  /// The file tensors that a tensor is made of.
  struct Source {
    quant::Format format;
    const io::FileTensor* data;
    const io::FileTensor* scales = nullptr;  ///< MXFP4 checkpoints only; `data` has the blocks
  };
  /// Finds a tensor that is not derived from the configuration. Reads no weights. Throws Error if
  /// it is missing or has another type or shape than the configuration requires.
  Source source(const TensorRef& tensor) const;
  /// Whether the tensor is stored as mxgpt computes with it, apart from its alignment.
  bool is_stored_as_is(const TensorRef& tensor) const;

  /// The mapped file that contains these bytes; null if they are in no file.
  const MappedFile* file_containing(std::span<const std::byte> bytes) const {
    return gguf_ ? gguf_->file_containing(bytes) : checkpoint_->file_containing(bytes);
  }
  /// Releases the memory of the file pages of a tensor. Views of it stay valid and are read again.
  void release_pages(const TensorRef& tensor) const;

 private:
  void open_gguf();
  void open_checkpoint();
  void read_stop_tokens();
  void read_rope_freq_factors();
  /// Throws Error if the file has a tensor that the table lacks: the model is then a variant of the
  /// architecture, and results without the tensor would be wrong.
  void check_names() const;
  /// Throws Error if a checkpoint has no head and does not tie it to the embedding.
  void check_head() const;
  /// Looks up a name with or without the architecture's prefix; null if it is missing.
  const io::FileTensor* find_in_checkpoint(const std::string& name) const;
  const io::FileTensors& file_tensors() const {
    return gguf_ ? gguf_->tensors() : checkpoint_->tensors();
  }

  std::filesystem::path path_;
  const Architecture* architecture_ = nullptr;
  Config config_;
  std::vector<int32_t> stop_tokens_;
  std::unique_ptr<io::GgufFile> gguf_;  // exactly one of the two is set
  std::unique_ptr<io::Checkpoint> checkpoint_;
};

}  // namespace mxgpt::model
