// Blocking generation for a single request.
#pragma once

#include <functional>
#include <span>

#include "engine/engine.h"
#include "runtime/device.h"

namespace mxgpt::engine {

struct GenerationResult {
  FinishReason finish_reason = FinishReason::stop;  ///< stop, length or cancelled
  bool context_full = false;                        ///< with `length`: not max_tokens
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  ///< prompt tokens found in the prefix cache
  int64_t output_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

struct GenerateOptions {
  SamplingParams sampling;
  int64_t max_tokens = 0;            ///< 0: until the context is full
  std::vector<int32_t> stop_tokens;  ///< end the output
  /// Polled about twenty times per second; returning true ends the output. May be empty.
  std::function<bool()> cancelled;
};

/// Options of an engine for a single conversation, as `mxgpt run` uses and `mxgpt plan` counts.
inline EngineOptions single_request_options(std::string_view device, int64_t context,
                                            backend::Precision precision,
                                            std::optional<quant::Format> kv) {
  return {.context = context,
          .max_sequences = 1,
          .max_batched_tokens = runtime::device(device).is_host() ? 256 : 0,
          .kv_tokens = 1,  // one context
          .device = device,
          .precision = precision,
          .kv_format = kv};
}

/// Runs a request of one choice. `on_token` receives every sampled token, including the last, and
/// returns whether to continue. `cancelled` may be empty; it is polled about twenty times per
/// second, and ends the output by returning true. Throws Error if the prompt does not fit or the
/// request fails.
GenerationResult generate(Engine& engine, Request request,
                          const std::function<bool(int32_t token)>& on_token,
                          const std::function<bool()>& cancelled = {});

/// Runs a prompt with these options.
GenerationResult generate(Engine& engine, std::span<const int32_t> prompt,
                          const GenerateOptions& options,
                          const std::function<bool(int32_t token)>& on_token);

}  // namespace mxgpt::engine
