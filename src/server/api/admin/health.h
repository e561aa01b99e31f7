// State and memory usage, as reported by /health, /metrics and the status page.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "engine/engine.h"
#include "server/api/served_model.h"
#include "server/store/response_store.h"

namespace mxgpt::server {

/// Resident set size of the process in bytes, mapped files included; 0 if unknown.
int64_t resident_bytes();

/// The member "device_memory" of /health; `used` is in bytes.
json::object memory_json(const engine::EngineStatus::Memory& memory, int64_t used);

/// Why the server is degraded although it serves requests; empty: it is not.
std::string degraded_reason(const engine::EngineStatus& engine, const ResponseStore::Status& store);

}  // namespace mxgpt::server
