// Reads weights into memory in large chunks, on several threads.
#pragma once

#include <functional>
#include <span>

#include "base/mapped_file.h"
#include "model/weight_loader.h"

namespace mxgpt::model {

/// Replaces each tensor, a view of a mapped file, by an owned copy. The copies are contiguous, in
/// the largest pages that the system provides. Shows progress if it takes long.
void read_into_memory(
    std::span<HostTensor* const> tensors,
    const std::function<const MappedFile*(std::span<const std::byte> bytes)>& file_of);

/// Locks the tensors' pages in memory until they are unmapped. Throws Error, with the limit, if the
/// system does not allow that much.
void lock_in_memory(std::span<const HostTensor> tensors);

}  // namespace mxgpt::model
