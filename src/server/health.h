// What the server says of its state and memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "engine/engine.h"
#include "server/response_store.h"
#include "server/served.h"

namespace mxgpt::server {

/// Bytes of this program in the host's memory, the mapped file's included; 0 if it is not known.
int64_t resident_bytes();

/// What is planned of the device's memory; on a GPU, as it is after what was given up.
MemoryParts planned_memory(const Served& served, const EngineStatus& status);

/// "device_memory" of /health.
json::object describe_memory(const EngineStatus::Memory& memory, const MemoryParts& planned,
                             int64_t used);

/// What is wrong, while answers still come; empty: nothing.
std::string failure(const EngineStatus& engine, const ResponseStore::Status& kept);

}  // namespace mxgpt::server
