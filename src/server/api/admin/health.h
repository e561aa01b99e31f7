// What the server says of its state and memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "engine/engine.h"
#include "server/api/served_model.h"
#include "server/store/response_store.h"

namespace mxgpt::server {

/// Bytes of this program in the host's memory, the mapped file's included; 0 if it is not known.
int64_t resident_bytes();

/// What is planned of the device's memory; on a GPU, as it is after what was given up.
MemoryBreakdown planned_memory(const ServedModel& served, const engine::EngineStatus& status);

/// "device_memory" of /health.
json::object memory_json(const engine::EngineStatus::Memory& memory, const MemoryBreakdown& planned,
                         int64_t used);

/// What is wrong, while answers still come; empty: nothing.
std::string degraded_reason(const engine::EngineStatus& engine, const ResponseStore::Status& store);

}  // namespace mxgpt::server
