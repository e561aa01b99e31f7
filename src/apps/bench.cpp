// `mxgpt bench`: how fast a model runs on this machine, and how close that is to the memory's
// speed.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <optional>

#include "apps/bench_report.h"
#include "apps/bench_sequences.h"
#include "apps/command.h"
#include "apps/model_option.h"
#include "apps/terminal.h"
#include "backend/cuda/device.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "base/memory_speed.h"
#include "base/progress.h"
#include "base/threads.h"
#include "base/version.h"
#include "engine/session.h"
#include "model/plan.h"

namespace mxgpt::apps {

namespace {

struct Options {
  ModelOption model;
  DeviceOption device;
  std::vector<int64_t> prefill{512}, depth{0}, batch{1};
  std::vector<int> threads;
  std::vector<Format> kv;
  int64_t decode = 32;
  int64_t rows = 0;  ///< 0: the device's
  int repetitions = 5;
  Precision precision = Precision::standard;
  bool no_bandwidth = false;
  BenchFormat format = BenchFormat::table;
};

struct Interrupted {};

void stop_if_interrupted() {
  if (CtrlC::pressed()) throw Interrupted();
}

template <class T>
T most(const std::vector<T>& values) {
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
  Bench(const Model& model, const Options& options, std::optional<Format> kv, BenchReport& report)
      : model_(model),
        options_(options),
        report_(report),
        // The longest pass goes beyond the depth, and a little more warms up.
        sequences_(model,
                   {.device = options.device.device,
                    .vram_budget = options.device.vram_budget,
                    .precision = options.precision,
                    .kv = kv,
                    .max_rows = options.rows},
                   {.sequences = most(options.batch),
                    .context = most(options.depth) + beyond(options),
                    .beyond = beyond(options)}),
        kv_(traits(kv_format(model.config(), sequences_.options())).name) {}

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

  static int64_t beyond(const Options& options) {
    const int64_t longest = options.prefill.empty() ? 0 : most(options.prefill);
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
    const int64_t sequences = options_.decode ? most(options_.batch) : 1;
    set_thread_count(most(options_.threads));
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
      const int64_t middle = result.depth + result.tokens / 2;
      result.token_bytes = bytes_per_token(model_, sequences_.options(), middle).total();
    }
    report_.results.push_back(std::move(result));
  }

  const Model& model_;
  const Options& options_;
  BenchReport& report_;
  BenchSequences sequences_;
  std::string kv_;
};

void check(const Options& options, const Config& config) {
  const int64_t needed = most(options.depth) + Bench::beyond(options);
  if (needed > config.context) {
    throw Error("--depth", fmt::format("{} tokens are needed, more than the model's context of {}",
                                       needed, config.context));
  }
  if (options.prefill.empty() && options.decode == 0)
    throw Error("--decode", "there is nothing to measure", "give --prefill or --decode");
}

size_t weight_bytes(const Model& model) {
  const MemoryPlan plan = plan_memory(model, {});
  return plan.mapped_weights() + plan.own_weights();
}

int run_bench(Options& options) {
  const auto model = options.model.open();
  check(options, model->config());
  std::sort(options.depth.begin(), options.depth.end());
  const bool on_gpu = options.device.device == Device::cuda;
  if (options.rows == 0) options.rows = on_gpu ? 2048 : SessionOptions().max_rows;
  if (options.threads.empty()) options.threads = {thread_count()};
  const ProfileFile profile(options.device);
  BenchReport report{.version = version(),
                     .date = fmt::format("{:%Y-%m-%d %H:%M UTC}", fmt::gmtime(std::time(nullptr))),
                     .cpu = on_gpu ? cuda::device_info().name : cpu_name(),
                     .isa = isa_name(isa()),
                     .model = model->path().filename().string(),
                     .architecture = model->config().architecture,
                     .model_bytes = weight_bytes(*model),
                     .rows = options.rows};
  const CtrlC ctrl_c({SIGINT, SIGTERM});
  try {
    if (!options.no_bandwidth && options.decode) {
      for (const int threads : options.threads) {
        set_thread_count(threads);
        report.bandwidth[threads] = on_gpu ? cuda::copy_bandwidth() : measure_read_bandwidth();
        stop_if_interrupted();
      }
    }
    std::vector<std::optional<Format>> caches(options.kv.begin(), options.kv.end());
    if (caches.empty()) caches.emplace_back();
    for (const std::optional<Format> kv : caches) Bench(*model, options, kv, report).run();
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted; what was measured before follows\n");
  }
  fmt::print("{}", format_report(report, options.format));
  return CtrlC::pressed() ? kFailed : kOk;
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
  constexpr int64_t kMost = int64_t{1} << 28;
  list("--prefill", o.prefill, "Prompt sizes (default: 512)", int64_t{1}, kMost);
  command.add_option("--decode", o.decode, "Tokens to decode, one after the other; 0 for none")
      ->check(CLI::Range(int64_t{0}, kMost).description(""))
      ->type_name("N")
      ->capture_default_str();
  list("--depth", o.depth, "Tokens in the context before (default: 0)", int64_t{0}, kMost);
  list("--batch", o.batch, "Sequences that decode together (default: 1)", int64_t{1},
       int64_t{4096});
  list("--threads", o.threads,
       "Threads to compute with (default: one a physical core that this process may use)", 1,
       kMaxThreads);
  declare_kv(command, o.kv);
  command.add_option("--rows", o.rows, "Prompt tokens a step (default: 256, on a GPU 2048)")
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

}  // namespace mxgpt::apps
