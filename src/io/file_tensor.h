// Tensors as stored in files: the common view of GGUF files and checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/format.h"

namespace mxgpt::io {

struct FileTensor {
  std::string name;
  std::string type;                     ///< as the file spells it: "BF16", "U8", "MXFP4"
  std::optional<quant::Format> format;  ///< empty for types without kernels (integers, IQ2_XXS…)
  std::vector<int64_t> shape;           ///< outermost first; the last dimension is contiguous
  /// Exactly as many bytes as type and shape require. Alignment is arbitrary: use memcpy or
  /// unaligned loads. Valid while the file object lives.
  std::span<const std::byte> bytes;
};

/// "[32, 2880, 90]".
std::string format_shape(std::span<const int64_t> shape);

/// The tensors of a file or of all its shards, in file order, with lookup by name.
class FileTensors {
 public:
  FileTensors() = default;
  /// Throws Error if two tensors have the same name. `where` names the file in errors.
  FileTensors(std::vector<FileTensor> tensors, std::string where);

  const FileTensor* find(std::string_view name) const;  ///< null when missing
  const FileTensor& at(std::string_view name) const;    ///< throws Error when missing

  auto begin() const { return tensors_.begin(); }
  auto end() const { return tensors_.end(); }
  size_t size() const { return tensors_.size(); }

 private:
  std::vector<FileTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indexes into tensors_, sorted by name
  std::string where_;
};

}  // namespace mxgpt::io
