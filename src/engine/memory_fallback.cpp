#include "engine/memory_fallback.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/device.h"

namespace mxgpt::engine {

std::string_view name(MemoryFallback::Kind kind) {
  switch (kind) {
    case MemoryFallback::Kind::batched_tokens:
      return "prompt_rows";
    case MemoryFallback::Kind::sequences:
      return "sequences";
    case MemoryFallback::Kind::kv_format:
      return "kv_format";
    case MemoryFallback::Kind::cpu_offload:
      return "host_experts";
  }
  return "";
}

EngineOptions resolve_defaults(const EngineShape& shape, EngineOptions options) {
  constexpr int64_t kDefaultKvTokens = 65536;
  if (options.context == 0) options.context = std::min(shape.context, kDefaultContext);
  if (options.kv_tokens == 0) options.kv_tokens = kDefaultKvTokens;
  options.kv_tokens = std::max(options.kv_tokens, options.context);
  const runtime::Device& device = runtime::device(options.device);
  options.device = device.name();
  if (options.max_batched_tokens == 0) options.max_batched_tokens = device.default_batched_tokens();
  return options;
}

std::optional<MemoryFallback> next_fallback(const EngineShape& shape, EngineOptions& o) {
  if (const int64_t tokens = o.max_batched_tokens / 2;
      tokens >= kMinBatchedTokens && tokens > o.max_sequences) {
    MemoryFallback fallback{.kind = MemoryFallback::Kind::batched_tokens,
                            .from = fmt::format("{} tokens", o.max_batched_tokens),
                            .to = fmt::format("{} tokens", tokens)};
    o.max_batched_tokens = tokens;
    return fallback;
  }
  if (o.max_sequences > 1 || o.kv_tokens > o.context) {
    const auto describe_limits = [&] {
      return fmt::format("{} with a cache of {} tokens", o.max_sequences, o.kv_tokens);
    };
    MemoryFallback fallback{.kind = MemoryFallback::Kind::sequences, .from = describe_limits()};
    o.max_sequences = std::max<int64_t>(1, o.max_sequences / 2);
    o.kv_tokens = std::max(o.context, o.kv_tokens / 2);
    fallback.to = describe_limits();
    return fallback;
  }
  const quant::Format kv = o.kv_format.value_or(quant::Format::f16);
  if (shape.supports_q8_kv && o.precision == backend::Precision::mixed &&
      kv != quant::Format::q8_0) {
    o.kv_format = quant::Format::q8_0;
    return MemoryFallback{.kind = MemoryFallback::Kind::kv_format,
                          .from = std::string(quant::traits(kv).name),
                          .to = std::string(quant::traits(quant::Format::q8_0).name)};
  }
  if (!o.no_offload && o.cpu_offload_layers < shape.expert_layers) {
    const int64_t layers = o.cpu_offload_layers++;
    return MemoryFallback{.kind = MemoryFallback::Kind::cpu_offload,
                          .from = fmt::format("{} layers", layers),
                          .to = fmt::format("{} layers", layers + 1)};
  }
  return std::nullopt;
}

}  // namespace mxgpt::engine
