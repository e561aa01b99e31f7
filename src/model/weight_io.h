// Weights brought into memory in large pieces, by several threads.
#pragma once

#include <functional>
#include <span>

#include "base/mapped_file.h"
#include "model/weights.h"

namespace mxgpt::model {

/// Makes each tensor, whose bytes are in a mapped file, an owner of a copy. The copies lie one
/// behind the other in pages as large as the system gives. Shows progress if it takes long.
void read_into_memory(
    std::span<HostTensor* const> tensors,
    const std::function<const MappedFile*(std::span<const std::byte> bytes)>& file_of);

/// Reads all bytes into memory, where they are mapped, and keeps them there while they are mapped.
/// Throws Error, with the limit, if the system allows less.
void lock_in_memory(std::span<const HostTensor> tensors);

}  // namespace mxgpt::model
