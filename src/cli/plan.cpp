// `mxgpt plan`: predicts the memory use of a model without loading it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <map>
#include <optional>

#include "backend/cuda/weight_repack.h"
#include "base/error.h"
#include "base/escape.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "engine/scoring_session.h"
#include "runtime/device.h"
#include "runtime/host_memory_plan.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelOption model;
  int64_t context = 0;
  int64_t num_sequences = 0;  // 0: one, as for `mxgpt run`
  backend::Precision precision = backend::Precision::mixed;
  std::optional<quant::Format> kv;
  std::string device = "cpu";
  std::optional<uint64_t> budget;
  bool json = false;
};

struct PlannedMemory {
  runtime::RunnerOptions runner_options;
  runtime::HostMemoryPlan memory;           ///< on the CPU
  std::optional<runtime::MemoryPlan> cuda;  ///< for a GPU, if requested

  uint64_t total() const { return cuda ? static_cast<uint64_t>(cuda->total()) : memory.total(); }
};

int64_t context_of(const Options& options, const model::Config& config) {
  return options.context ? options.context : std::min(config.context, engine::kDefaultContext);
}

PlannedMemory plan_for(const runtime::Model& model, int64_t context, const Options& options,
                       std::optional<quant::Format> kv) {
  const model::Config& c = model.config();
  PlannedMemory planned;
  if (options.num_sequences == 0) {
    planned.runner_options = engine::Engine::runner_options(
        engine::EngineShape::from_config(c),
        engine::single_request_options(options.device, context, options.precision, kv));
  } else {
    planned.runner_options = engine::Engine::runner_options(
        engine::EngineShape::from_config(c), {.context = context,
                                              .max_sequences = options.num_sequences,
                                              .kv_tokens = options.num_sequences * context,
                                              .device = options.device,
                                              .precision = options.precision,
                                              .kv_format = kv});
  }
  if (options.device == "cuda")
    planned.cuda = runtime::device(options.device).plan_memory(model, planned.runner_options);
  else
    planned.memory = runtime::plan_host_memory(model, planned.runner_options);
  return planned;
}

std::string size_text(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1'000'000'000) return fmt::format("{:.2f} GB", value / 1e9);
  if (bytes >= 1'000'000) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.1f} kB", value / 1e3);
}

/// "2.00 GB (1.86 GiB)".
std::string total_text(uint64_t bytes) {
  return fmt::format("{} ({:.2f} GiB)", size_text(bytes), static_cast<double>(bytes) / (1 << 30));
}

void print_total(const PlannedMemory& planned) {
  fmt::print("{:<10} {:<24} {:>10}  {:.2f} GiB\n", "total", "", size_text(planned.total()),
             static_cast<double>(planned.total()) / (1 << 30));
}

void print_cuda_plan(const runtime::MemoryPlan& plan) {
  const char* const estimate =
      cuda::device_caps().is_local ? "" : "  estimated for an H100, as no GPU is present";
  for (const auto& [part, bytes, note] :
       {std::tuple("weights", plan.weights, ""), std::tuple("KV cache", plan.kv_cache, ""),
        std::tuple("workspace", plan.workspace, ""), std::tuple("CUDA", plan.runtime, estimate)}) {
    fmt::print("{:<10} {:<24} {:>10}{}\n", part, "", size_text(static_cast<uint64_t>(bytes)), note);
  }
}

void print_plan(const runtime::Model& model, const PlannedMemory& planned, int64_t context,
                const Options& options) {
  const runtime::HostMemoryPlan& plan = planned.memory;
  const auto line = [](std::string_view part, std::string_view detail, uint64_t bytes,
                       std::string_view note) {
    fmt::print("{:<10} {:<24} {:>10}{}{}\n", part, detail, size_text(bytes),
               note.empty() ? "" : "  ", note);
  };
  fmt::print("{}: {}, {} {} of {} tokens\n\n",
             escape_for_terminal(model.path().filename().string()), model.config().architecture,
             std::max<int64_t>(options.num_sequences, 1),
             options.num_sequences > 1 ? "sequences" : "sequence", context);
  if (planned.cuda) {
    print_cuda_plan(*planned.cuda);
    return print_total(planned);
  }
  std::string_view part = "weights";
  for (const runtime::HostMemoryPlan::WeightGroup& w : plan.weights) {
    if (w.mapped_bytes) line(std::exchange(part, ""), w.name, w.mapped_bytes, "mapped");
    if (w.private_bytes) line(std::exchange(part, ""), w.name, w.private_bytes, "");
  }
  part = "KV cache";
  const std::string_view kv =
      quant::traits(runtime::kv_format(model.config(), planned.runner_options)).name;
  for (int g = 0; g < backend::kKvGroups; ++g) {
    const runtime::HostMemoryPlan::KvCache& group = plan.kv[g];
    if (group.layers == 0) continue;
    line(std::exchange(part, ""),
         fmt::format(
             "{} {} layers, {}", group.layers,
             static_cast<backend::KvGroup>(g) == backend::KvGroup::full ? "full" : "sliding", kv),
         group.bytes,
         fmt::format("{} bytes per token, {} tokens", group.bytes_per_token,
                     planned.runner_options.kv_pages[g] * backend::kPageTokens));
  }
  line("workspace", fmt::format("{} tokens per step", planned.runner_options.max_batched_tokens),
       plan.workspace, "");
  line("program", "code, vocabulary, text", plan.program, "estimated");
  print_total(planned);
}

void print_json(const runtime::Model& model, const PlannedMemory& planned, int64_t context,
                const Options& options) {
  const runtime::HostMemoryPlan& plan = planned.memory;
  json::array weights;
  for (const runtime::HostMemoryPlan::WeightGroup& w : plan.weights) {
    weights.push_back(json::object{{"part", w.name},
                                   {"tensors", w.tensors},
                                   {"mapped", w.mapped_bytes},
                                   {"own", w.private_bytes}});
  }
  const auto group = [&](backend::KvGroup g) {
    const runtime::HostMemoryPlan::KvCache& kv = plan.kv[static_cast<int>(g)];
    return json::object{
        {"layers", kv.layers},
        {"bytes_per_token", kv.bytes_per_token},
        {"tokens", planned.runner_options.kv_pages[static_cast<int>(g)] * backend::kPageTokens},
        {"bytes", kv.bytes}};
  };
  json::object object{
      {"model", model.path().string()},
      {"architecture", model.config().architecture},
      {"device", planned.cuda ? "cuda" : "cpu"},
      {"context", context},
      {"parallel", std::max<int64_t>(options.num_sequences, 1)},
      {"total", planned.total()},
      {"budget", options.budget ? json::value(*options.budget) : json::value(nullptr)},
      {"fits", !options.budget || planned.total() <= *options.budget}};
  if (planned.cuda) {
    object["weights"] = planned.cuda->weights;
    object["kv"] = planned.cuda->kv_cache;
    object["workspace"] = planned.cuda->workspace;
    object["cuda"] = planned.cuda->runtime;
    object["gpu_is_here"] = cuda::device_caps().is_local;
    return fmt::print("{}\n", json::serialize(object));
  }
  const json::object parts{
      {"weights", std::move(weights)},
      {"mapped_weights", plan.mapped_weights()},
      {"own_weights", plan.private_weights()},
      {"kv_format", quant::traits(runtime::kv_format(model.config(), planned.runner_options)).name},
      {"kv", json::object{{"full", group(backend::KvGroup::full)},
                          {"sliding", group(backend::KvGroup::window)}}},
      {"workspace", plan.workspace},
      {"program", plan.program}};
  object.insert(parts.begin(), parts.end());
  fmt::print("{}\n", json::serialize(object));
}

/// Longest context that fits, in multiples of 256; 0 if none does.
int64_t longest_context(const runtime::Model& model, const Options& options,
                        std::optional<quant::Format> kv, int64_t limit) {
  constexpr int64_t kStep = 256;
  int64_t fits = 0;
  for (int64_t step = std::bit_floor(static_cast<uint64_t>(limit / kStep)); step > 0; step /= 2) {
    const int64_t context = fits + step * kStep;
    if (context <= limit && plan_for(model, context, options, kv).total() <= *options.budget)
      fits = context;
  }
  return fits;
}

/// Suggests settings that fit the budget.
std::string advice(const runtime::Model& model, const Options& options, int64_t context) {
  std::vector<std::string> alternatives;
  const quant::Format now = runtime::kv_format(
      model.config(), plan_for(model, context, options, options.kv).runner_options);
  const bool can_shrink =
      now != quant::Format::q8_0 && options.precision != backend::Precision::exact &&
      model.config().head_dim % quant::traits(quant::Format::q8_0).block_elements == 0;
  if (can_shrink) {
    const uint64_t total = plan_for(model, context, options, quant::Format::q8_0).total();
    if (total <= *options.budget)
      alternatives.push_back(fmt::format("--kv q8_0 ({})", size_text(total)));
  }
  const int64_t shorter = longest_context(model, options, options.kv, context);
  if (shorter) alternatives.push_back(fmt::format("--ctx {}", shorter));
  if (can_shrink && alternatives.empty()) {
    if (const int64_t both = longest_context(model, options, quant::Format::q8_0, context))
      alternatives.push_back(fmt::format("--kv q8_0 --ctx {}", both));
  }
  if (!alternatives.empty())
    return fmt::format("these settings fit: {}", fmt::join(alternatives, ", or "));
  return options.num_sequences > 1 ? "use fewer sequences, or a smaller model"
                                   : "use a smaller model";
}

int run_plan(const Options& options) {
  const auto model = options.model.open();
  const int64_t context = context_of(options, model->config());
  const PlannedMemory planned = plan_for(*model, context, options, options.kv);
  if (options.json)
    print_json(*model, planned, context, options);
  else
    print_plan(*model, planned, context, options);
  const uint64_t total = planned.total();
  if (!options.budget || total <= *options.budget) return kOk;
  std::fflush(stdout);
  throw Error("--memory-budget",
              fmt::format("{} needed, {} more than {}", total_text(total),
                          size_text(total - *options.budget), total_text(*options.budget)),
              advice(*model, options, context));
}

}  // namespace

std::function<int()> plan(CommandOptions& command) {
  const auto options = std::make_shared<Options>();
  Options& o = *options;
  o.model.declare(command, false);
  command.integer("--ctx", o.context, 2, int64_t{1} << 28,
                  fmt::format("Context length in tokens (default: the model's, at most {})",
                              engine::kDefaultContext));
  command.integer("--max-num-seqs|--parallel", o.num_sequences, 1, 4096,
                  "Concurrent sequences of that length, as for `mxgpt serve` (default: 1)");
  declare_kv(command, o.kv);
  declare_precision(command, o.precision);
  declare_device(command, o.device);
  command.bytes("--memory-budget|--budget", o.budget,
                "Fail if more memory is needed, and say which settings would fit");
  command.flag("--json", o.json, "Print one JSON object");
  command.footer(
      "Nothing is loaded. Mapped weights stay in the file; the system may evict and re-read them.\n"
      "The total is the peak resident set size (VmHWM) once the whole context is in use.\n"
      "Example: mxgpt plan --model model.gguf --ctx 131072 --kv q8_0 --memory-budget 24GiB");
  return [options] { return run_plan(*options); };
}

}  // namespace mxgpt::cli
