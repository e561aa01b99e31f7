// `mxgpt bench`: prefill and decode speed, relative to the memory bandwidth.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <optional>

#include "backend/cuda/device.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "base/memory_bandwidth.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/version.h"
#include "cli/bench_report.h"
#include "cli/bench_sequences.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "engine/scoring_session.h"
#include "kernels/cpu/isa.h"
#include "runtime/host_memory_plan.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelOption model;
  DeviceOption device;
  std::vector<int64_t> prefill{512}, depth{0}, batch{1};
  std::vector<int> threads;
  std::vector<quant::Format> kv;
  int64_t decode = 32;
  int64_t tokens_per_step = 0;  ///< 0: the device's default
  int repetitions = 5;
  backend::Precision precision = backend::Precision::mixed;
  bool no_bandwidth = false;
  BenchFormat format = BenchFormat::table;
};

struct Interrupted {};

void stop_if_interrupted() {
  if (SignalGuard::interrupted()) throw Interrupted();
}

template <class T>
T max_of(const std::vector<T>& values) {
  return *std::max_element(values.begin(), values.end());
}

template <class F>
double seconds(const F& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// All measurements with one KV cache format.
class Bench {
 public:
  Bench(const runtime::Model& model, const Options& options, std::optional<quant::Format> kv,
        BenchReport& report)
      : model_(model),
        options_(options),
        report_(report),
        // The longest measurement extends the context beyond the depth.
        sequences_(model,
                   {.device = options.device.device,
                    .vram_budget = options.device.vram_budget,
                    .precision = options.precision,
                    .kv_format = kv,
                    .max_batched_tokens = options.tokens_per_step},
                   {.sequences = max_of(options.batch),
                    .context = max_of(options.depth) + longest_extension(options),
                    .max_extension = longest_extension(options)}),
        kv_(quant::traits(runtime::kv_format(model.config(), sequences_.options())).name) {}

  void run() {
    warm_up();
    for (const int64_t depth : options_.depth) {
      fill(depth);
      for (const int threads : options_.threads) {
        set_thread_count(threads);
        for (const int64_t tokens : options_.prefill) {
          measure({.tokens = tokens, .depth = depth, .threads = threads});
        }
        if (options_.decode == 0) continue;
        for (const int64_t batch : options_.batch) {
          measure({.decode = true,
                   .tokens = options_.decode,
                   .depth = depth,
                   .batch = batch,
                   .threads = threads});
        }
      }
    }
  }

  static int64_t longest_extension(const Options& options) {
    const int64_t longest = options.prefill.empty() ? 0 : max_of(options.prefill);
    return std::max({longest, options.decode, kWarmUp + 1});
  }

 private:
  static constexpr int64_t kWarmUp = 64;

  /// Loads the weights into memory and brings the processor to full speed.
  void warm_up() {
    sequences_.prefill(0, kWarmUp);
    sequences_.decode(1);
    sequences_.rewind(0, 0);
  }

  void fill(int64_t depth) {
    if (depth == 0) return;
    const int64_t sequences = options_.decode ? max_of(options_.batch) : 1;
    set_thread_count(max_of(options_.threads));
    Progress progress(fmt::format("Filling the context to {}", depth), sequences * depth, "tokens");
    for (int64_t s = 0; s < sequences; ++s) {
      sequences_.fill(s, depth, [&](int64_t tokens) {
        stop_if_interrupted();
        progress.advance(tokens);
      });
    }
  }

  void measure(BenchResult result) {
    result.kv = kv_;
    for (int i = 0; i < options_.repetitions; ++i) {
      const double time = seconds([&] {
        if (!result.decode) return sequences_.prefill(0, result.tokens);
        for (int64_t token = 0; token < result.tokens; ++token) {
          stop_if_interrupted();
          sequences_.decode(result.batch);
        }
      });
      result.rates.push_back(static_cast<double>(result.tokens * result.batch) / time);
      for (int64_t s = 0; s < result.batch; ++s) sequences_.rewind(s, result.depth);
      stop_if_interrupted();
    }
    if (result.decode && result.batch == 1) {
      const int64_t mid_position = result.depth + result.tokens / 2;
      result.bytes_per_token =
          runtime::decode_traffic(model_, sequences_.options(), mid_position).total();
    }
    report_.results.push_back(std::move(result));
  }

  const runtime::Model& model_;
  const Options& options_;
  BenchReport& report_;
  BenchSequences sequences_;
  std::string kv_;
};

void check_options(const Options& options, const model::Config& config) {
  const int64_t needed = max_of(options.depth) + Bench::longest_extension(options);
  if (needed > config.context) {
    throw Error("--depth", fmt::format("needs {} tokens, more than the model's context of {}",
                                       needed, config.context));
  }
  if (options.prefill.empty() && options.decode == 0)
    throw Error("--decode", "there is nothing to measure", "set --prefill or --decode");
}

size_t weight_bytes(const runtime::Model& model) {
  const runtime::HostMemoryPlan plan = runtime::plan_host_memory(model, {});
  return plan.mapped_weights() + plan.private_weights();
}

int run_bench(Options& options) {
  const auto model = options.model.open();
  check_options(options, model->config());
  std::sort(options.depth.begin(), options.depth.end());
  const bool on_gpu = options.device.device != "cpu";
  if (options.tokens_per_step == 0)
    options.tokens_per_step = on_gpu ? 2048 : engine::ScoringOptions().max_batched_tokens;
  if (options.threads.empty()) options.threads = {thread_count()};
  const ProfileFile profile(options.device);
  BenchReport report{.version = version(),
                     .date = fmt::format("{:%Y-%m-%d %H:%M UTC}", fmt::gmtime(std::time(nullptr))),
                     .cpu = on_gpu ? cuda::device_info().name : cpu_name(),
                     .isa = kernels::isa_name(kernels::isa()),
                     .model = model->path().filename().string(),
                     .architecture = model->config().architecture,
                     .model_bytes = weight_bytes(*model),
                     .tokens_per_step = options.tokens_per_step};
  const SignalGuard signal_guard({SIGINT, SIGTERM});
  try {
    if (!options.no_bandwidth && options.decode) {
      for (const int threads : options.threads) {
        set_thread_count(threads);
        report.bandwidth[threads] = on_gpu ? cuda::copy_bandwidth() : measure_read_bandwidth();
        stop_if_interrupted();
      }
    }
    std::vector<std::optional<quant::Format>> kv_formats(options.kv.begin(), options.kv.end());
    if (kv_formats.empty()) kv_formats.emplace_back();
    for (const std::optional<quant::Format> kv : kv_formats)
      Bench(*model, options, kv, report).run();
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted; results so far:\n");
  }
  fmt::print("{}", format_report(report, options.format));
  return SignalGuard::interrupted() ? kFailed : kOk;
}

}  // namespace

std::function<int()> bench(CommandOptions& command) {
  const auto options = std::make_shared<Options>();
  Options& o = *options;
  constexpr int64_t kMaxTokens = int64_t{1} << 28;
  o.model.declare(command, false);
  o.device.declare(command);
  command.integers("--prefill", o.prefill, 1, kMaxTokens, "Prompt lengths").default_text("512");
  command.integer("--decode", o.decode, 0, kMaxTokens, "Tokens to decode; 0: do not measure decode")
      .default_text("32");
  command.integers("--depth", o.depth, 0, kMaxTokens, "Tokens already in the context")
      .default_text("0");
  command.integers("--batch", o.batch, 1, 4096, "Sequences decoded together").default_text("1");
  command.integers("--threads", o.threads, 1, kMaxThreads,
                   "Compute threads (default: one per available physical core)");
  declare_kv(command, o.kv);
  command.integer("--max-num-batched-tokens|--rows", o.tokens_per_step, 1, int64_t{1} << 16,
                  "Prompt tokens per step (default: 256 on the CPU, 2048 on a GPU)");
  command.integer("--repetitions", o.repetitions, 1, 1000, "Runs per measurement")
      .default_text("5");
  declare_precision(command, o.precision);
  command.flag("--no-bandwidth", o.no_bandwidth, "Do not measure memory bandwidth");
  command
      .choice("--format", o.format,
              Choices<BenchFormat>{{"table", BenchFormat::table},
                                   {"csv", BenchFormat::csv},
                                   {"json", BenchFormat::json},
                                   {"markdown", BenchFormat::markdown}},
              "Output format")
      .default_text("table");
  command.footer(
      "Prompts are synthetic tokens; speed does not depend on them. Each rate is the median of "
      "the\n"
      "repetitions. \"read per token\" counts the weights used (for a mixture of experts, the "
      "chosen\n"
      "experts) and the KV cache.\n"
      "Example: mxgpt bench --model model.gguf --prefill 128,512 --depth 0,8192 --kv f16,q8_0");
  return [options] { return run_bench(*options); };
}

}  // namespace mxgpt::cli
