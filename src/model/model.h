// A model opened from a GGUF file or a checkpoint directory: what it is, and its tensors one by
// one.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/architecture.h"

namespace mxgpt::runtime {
class CudaWeights;
}

namespace mxgpt::model {

/// How weights come into host memory.
struct LoadOptions {
  bool use_mmap = true;    ///< used where the file is mapped; else copied into private memory
  bool use_mlock = false;  ///< kept there: never dropped, never swapped out
};

/// Owns the mapped files and what had to be repacked; immutable once opened. Runners keep the
/// weights' addresses, so a model outlives its runners.
class Model {
 public:
  /// Opens without loading: the configuration is read and checked, weights stay in the file.
  /// Throws Error for a path that is neither a GGUF file nor a checkpoint directory, an unknown
  /// architecture, or a description that makes no sense.
  static std::unique_ptr<Model> open(const std::filesystem::path& path,
                                     LoadOptions load_options = {});
  ~Model();

  const std::filesystem::path& path() const { return path_; }
  const Architecture& architecture() const { return *architecture_; }
  const Config& config() const { return config_; }
  /// The file as a GGUF, or null if it is a checkpoint.
  const io::GgufFile* gguf() const { return gguf_.get(); }

  /// Tokens that end an answer, as generation_config.json, config.json or the GGUF's tokenizer name
  /// them.
  const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }

  /// Whether the model has this tensor: false only for optional ones that its file is without.
  bool has(const TensorSpec& spec, int64_t layer) const;
  /// One tensor that the model has, its shape checked against the configuration. From a GGUF file,
  /// a view of the map; from a checkpoint, a view where the layout is the same and a repacked copy
  /// where it is not.
  HostTensor read(const TensorSpec& spec, int64_t layer) const;
  /// The same as a backend holds it: vectors as f32.
  HostTensor load_tensor(const TensorSpec& spec, int64_t layer) const;
  /// The format that read() gives. Throws what read() would, but touches no weights.
  quant::Format stored_format(const TensorSpec& spec, int64_t layer) const;

  /// How weights() holds a tensor, before it is loaded.
  struct StoredTensorInfo {
    quant::Format format;
    size_t bytes;
    bool is_mapped;  ///< where the file is mapped, not in memory of the program's own
  };
  StoredTensorInfo stored_info(const TensorSpec& spec, int64_t layer) const;

  /// Gives back the memory of the file's pages that read() touched; what it returned stays valid.
  void release_pages(const TensorSpec& spec, int64_t layer) const;

  /// All tensors in host memory, as the CPU backend uses them; vectors as f32. Loaded at the first
  /// call, as LoadOptions say. Throws Error if locking is wanted and not allowed.
  const Weights& weights() const;
  /// The same in the memory of a device; of a GPU, copied at the first call.
  const Weights& weights(backend::Device device) const;
  /// A runner of this model on options.device. Throws Error, before anything is loaded, if weights,
  /// cache and workspace do not fit there. The model outlives it. All its runners on a GPU at
  /// a time have the same host_expert_layers: with another number the weights are loaded anew.
  std::unique_ptr<runtime::Runner> create_runner(const runtime::RunnerOptions& options) const;

 private:
  Model() = default;
  void read_stop_tokens();
  void read_rope_freq_factors();
  /// Throws Error if the file has a tensor that the table does not: a variant of the architecture
  /// whose results would be wrong without it.
  void check_names() const;
  /// Throws Error if the head is missing from a checkpoint that does not share it with the
  /// embedding.
  void check_head() const;
  /// Whether a checkpoint has the tensor as numbers of its configuration (rope divisors).
  bool is_derived_from_config(const TensorSpec& spec) const;
  /// By its name or its name without the architecture's prefix; null when missing.
  const io::FileTensor* find_in_checkpoint(const std::string& name) const;
  const MappedFile* file_of(std::span<const std::byte> bytes) const {
    return gguf_ ? gguf_->file_containing(bytes) : checkpoint_->file_containing(bytes);
  }

  /// The tensors of the file that one of the model's is made of, their types and shapes checked.
  struct TensorSource {
    quant::Format format;
    const io::FileTensor* data;
    const io::FileTensor* scales =
        nullptr;  ///< of MXFP4 in checkpoints, whose `data` are the blocks
  };
  TensorSource find_source(const TensorSpec& spec, int64_t layer) const;
  /// Whether the tensor lies in the file as mxgpt computes with it.
  bool is_view(const TensorSpec& spec, const TensorSource& source) const;
  void load_tensor() const;

  std::filesystem::path path_;
  LoadOptions load_options_;
  const Architecture* architecture_ = nullptr;
  Config config_;
  std::vector<int32_t> stop_tokens_;
  std::unique_ptr<io::GgufFile> gguf_;
  std::unique_ptr<io::Checkpoint> checkpoint_;
  mutable std::once_flag load_once_;
  mutable Weights weights_;
  mutable std::vector<HostTensor> host_tensors_;  ///< owners of what weights_ points at
  mutable std::mutex cuda_mutex_;
  mutable std::unique_ptr<runtime::CudaWeights> cuda_weights_;
};

}  // namespace mxgpt::model
