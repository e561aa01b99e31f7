// `mxgpt perplexity`: computes the perplexity of a text.
#include <fmt/format.h>

#include <chrono>
#include <csignal>

#include "base/error.h"
#include "base/escape.h"
#include "base/file_writer.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "cli/text_source.h"
#include "eval/teacher_forcing.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelOption model;
  DeviceOption device;
  TextSource text;
  backend::Precision precision = backend::Precision::mixed;
  std::optional<quant::Format> kv;
  kernels::AccumType accumulate = kernels::AccumType::f32;
  int64_t chunk = 512, max_tokens = 0;
  std::filesystem::path json;
};

struct Interrupted {};

int run_perplexity(const Options& options) {
  const auto model = options.model.open();
  const model::Config& config = model->config();
  const TokenizedText text = options.text.read(options.model.location());
  const int64_t chunk_length = std::min(options.chunk, config.context);
  std::vector<eval::Chunk> chunks = eval::split_into_chunks(text.documents, chunk_length, text.bos);
  if (options.max_tokens) chunks = eval::sample_chunks(std::move(chunks), options.max_tokens);
  const int64_t scored = eval::count_scored_tokens(chunks);
  if (scored == 0) {
    throw Error(options.text.path().string(),
                "has no document with at least two tokens; there is nothing to score");
  }

  const SignalGuard signal_guard;
  const auto start = std::chrono::steady_clock::now();
  const eval::Perplexity result = [&] {
    Progress progress("Scoring", scored + chunks.size(), "tokens");
    return eval::perplexity(*model,
                            {.device = options.device.device,
                             .vram_budget = options.device.vram_budget,
                             .precision = options.precision,
                             .accum_type = options.accumulate,
                             .kv_format = options.kv},
                            chunks, [&](int64_t tokens) {
                              if (SignalGuard::interrupted()) throw Interrupted();
                              progress.advance(tokens);
                            });
  }();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double rate = static_cast<double>(scored) / seconds;
  const eval::Clusters clusters = eval::cluster_chunks(chunks);

  const std::string_view precision =
      options.precision == backend::Precision::exact ? "exact" : "default";
  const std::string_view samples = clusters.documents ? "documents" : "chunks";
  fmt::print("{}: {}, {} precision{}{}\n", escape_for_terminal(options.model.location().string()),
             config.architecture, precision,
             options.accumulate == kernels::AccumType::f16 ? ", f16 sums" : "",
             options.kv ? fmt::format(", {} cache", quant::traits(*options.kv).name) : "");
  fmt::print("{}: {} documents in {} chunks of at most {} tokens\n",
             escape_for_terminal(options.text.path().string()), text.documents.size(),
             chunks.size(), chunk_length);
  fmt::print("perplexity  {:.4f} ± {:.4f}\n", result.value(), result.standard_error());
  fmt::print("NLL         {:.5f} ± {:.5f} nats per token\n", result.nll.value,
             result.nll.standard_error);
  fmt::print("{} tokens scored, {:.0f} tokens/s; ± is the standard error over {} {}\n", scored,
             rate, clusters.count, samples);
  if (!options.json.empty()) {
    FileWriter out(options.json);
    out.write(json::serialize(json::object{
        {"model", options.model.location().string()},
        {"text", options.text.path().string()},
        {"precision", precision},
        {"accumulate", options.accumulate == kernels::AccumType::f16 ? "f16" : "f32"},
        {"kv", options.kv ? json::value(quant::traits(*options.kv).name) : json::value(nullptr)},
        {"documents", text.documents.size()},
        {"chunks", chunks.size()},
        {"chunk", chunk_length},
        {"scored_tokens", scored},
        {"clusters", json::object{{"kind", samples}, {"count", clusters.count}}},
        {"nll", result.nll.value},
        {"nll_standard_error",
         result.nll.has_interval() ? json::value(result.nll.standard_error) : json::value(nullptr)},
        {"perplexity", result.value()},
        {"perplexity_standard_error",
         result.nll.has_interval() ? json::value(result.standard_error()) : json::value(nullptr)},
        {"tokens_per_second", rate}}));
    out.write("\n");
    out.commit();
  }
  return kOk;
}

}  // namespace

std::function<int()> perplexity(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  options->model.declare(command);
  options->text.declare(command);
  options->device.declare(command);
  declare_precision(command, options->precision);
  declare_kv(command, options->kv);
  declare_accumulate(command, options->accumulate);
  declare_chunking(command, options->chunk, options->max_tokens);
  command.path("--json", options->json, "Write the results as JSON");
  command.footer(
      "The text is split into chunks. The model sees each chunk without what precedes it, and "
      "every\n"
      "token but the first of a chunk is scored. The standard error treats a document as one\n"
      "independent sample, or a chunk if there are fewer than 30 documents.");
  return [options]() -> int {
    try {
      return run_perplexity(*options);
    } catch (const Interrupted&) {
      fmt::print(stderr, "mxgpt: interrupted\n");
      return 128 + SIGINT;
    }
  };
}

}  // namespace mxgpt::cli
