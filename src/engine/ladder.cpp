#include "engine/ladder.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/session.h"

namespace mxgpt {

std::string_view name(Concession::What what) {
  switch (what) {
    case Concession::What::prompt_rows:
      return "prompt_rows";
    case Concession::What::sequences:
      return "sequences";
    case Concession::What::kv_format:
      return "kv_format";
    case Concession::What::host_experts:
      return "host_experts";
  }
  return "";
}

EngineOptions resolved(const EngineShape& shape, EngineOptions options) {
  constexpr int64_t kDefaultKvTokens = 65536;
  if (options.context == 0) options.context = std::min(shape.context, kDefaultContext);
  if (options.kv_tokens == 0) options.kv_tokens = kDefaultKvTokens;
  options.kv_tokens = std::max(options.kv_tokens, options.context);
  if (options.max_rows == 0) options.max_rows = options.device == Device::cuda ? 2048 : 512;
  return options;
}

std::optional<Concession> concede(const EngineShape& shape, EngineOptions& o) {
  if (const int64_t rows = o.max_rows / 2; rows >= kLeastRows && rows > o.max_sequences) {
    Concession c{.what = Concession::What::prompt_rows,
                 .from = fmt::format("{} tokens", o.max_rows),
                 .to = fmt::format("{} tokens", rows)};
    o.max_rows = rows;
    return c;
  }
  if (o.max_sequences > 1 || o.kv_tokens > o.context) {
    const auto now = [&] {
      return fmt::format("{} with a cache of {} tokens", o.max_sequences, o.kv_tokens);
    };
    Concession c{.what = Concession::What::sequences, .from = now()};
    o.max_sequences = std::max<int64_t>(1, o.max_sequences / 2);
    o.kv_tokens = std::max(o.context, o.kv_tokens / 2);
    c.to = now();
    return c;
  }
  const Format kv = o.kv.value_or(Format::f16);
  if (shape.q8_kv && o.precision == Precision::standard && kv != Format::q8_0) {
    o.kv = Format::q8_0;
    return Concession{.what = Concession::What::kv_format,
                      .from = std::string(traits(kv).name),
                      .to = std::string(traits(Format::q8_0).name)};
  }
  if (!o.resident && o.host_expert_layers < shape.expert_layers) {
    const int64_t layers = o.host_expert_layers++;
    return Concession{.what = Concession::What::host_experts,
                      .from = fmt::format("{} layers", layers),
                      .to = fmt::format("{} layers", layers + 1)};
  }
  return std::nullopt;
}

}  // namespace mxgpt
