// `mxgpt bench`: how fast a model runs on this machine, and how close that is to the memory's
// speed.
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
  int64_t tokens_per_step = 0;  ///< 0: the device's
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

/// All measurements with one format of the KV cache.
class Bench {
 public:
  Bench(const runtime::Model& model, const Options& options, std::optional<quant::Format> kv,
        BenchReport& report)
      : model_(model),
        options_(options),
        report_(report),
        // The longest pass goes beyond the depth, and a little more warms up.
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

  /// The weights come into memory, the processor to its speed.
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
    throw Error("--depth", fmt::format("{} tokens are needed, more than the model's context of {}",
                                       needed, config.context));
  }
  if (options.prefill.empty() && options.decode == 0)
    throw Error("--decode", "there is nothing to measure", "give --prefill or --decode");
}

size_t weight_bytes(const runtime::Model& model) {
  const runtime::HostMemoryPlan plan = runtime::plan_host_memory(model, {});
  return plan.mapped_weights() + plan.private_weights();
}

int run_bench(Options& options) {
  const auto model = options.model.open();
  check_options(options, model->config());
  std::sort(options.depth.begin(), options.depth.end());
  const bool on_gpu = options.device.device == backend::Device::cuda;
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
    fmt::print(stderr, "mxgpt: interrupted; what was measured before follows\n");
  }
  fmt::print("{}", format_report(report, options.format));
  return SignalGuard::interrupted() ? kFailed : kOk;
}

}  // namespace

std::function<int()> bench(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  Options& o = *options;
  o.model.declare(command, false);
  o.device.declare(command);
  const auto list = [&](const char* name, auto& values, const char* help, auto low, auto high) {
    command.add_option(name, values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::Range(low, high).description(""))
        ->type_name("N,…");
  };
  constexpr int64_t kMaxTokens = int64_t{1} << 28;
  list("--prefill", o.prefill, "Prompt sizes (default: 512)", int64_t{1}, kMaxTokens);
  command.add_option("--decode", o.decode, "Tokens to decode, one after the other; 0 for none")
      ->check(CLI::Range(int64_t{0}, kMaxTokens).description(""))
      ->type_name("N")
      ->capture_default_str();
  list("--depth", o.depth, "Tokens in the context before (default: 0)", int64_t{0}, kMaxTokens);
  list("--batch", o.batch, "Sequences that decode together (default: 1)", int64_t{1},
       int64_t{4096});
  list("--threads", o.threads,
       "Threads to compute with (default: one a physical core that this process may use)", 1,
       kMaxThreads);
  declare_kv(command, o.kv);
  command
      .add_option("--rows", o.tokens_per_step, "Prompt tokens a step (default: 256, on a GPU 2048)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16).description(""))
      ->type_name("N");
  command.add_option("--repetitions", o.repetitions, "Of each measurement")
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("N")
      ->capture_default_str();
  declare_precision(command, o.precision);
  command.add_flag("--no-bandwidth", o.no_bandwidth, "Leave out the speed of the memory");
  static const std::map<std::string, BenchFormat> kFormats{{"table", BenchFormat::table},
                                                           {"csv", BenchFormat::csv},
                                                           {"json", BenchFormat::json},
                                                           {"markdown", BenchFormat::markdown}};
  command.add_option("--format", o.format, "How to print the results")
      ->transform(CLI::CheckedTransformer(kFormats, CLI::ignore_case).description(""))
      ->type_name("table|csv|json|markdown")
      ->default_str("table");
  command.footer(
      "Tokens are made up; what a model answers plays no part in its speed. A rate is the median "
      "of "
      "the\nrepetitions. What a decoded token reads is the weights it meets, of experts those it "
      "chooses, and the\ncontext's keys and values.\n"
      "Example: mxgpt bench --model model.gguf --prefill 128,512 --depth 0,8192 --kv f16,q8_0");
  return [options] { return run_bench(*options); };
}

}  // namespace mxgpt::cli
