// `mxgpt imatrix`: computes an importance matrix for `mxgpt quantize --imatrix`.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/escape.h"
#include "cli/command.h"
#include "cli/gguf_export.h"
#include "cli/model_options.h"
#include "cli/text_source.h"
#include "eval/teacher_forcing.h"
#include "model/importance_matrix.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelOption model;
  TextSource text;
  GgufDestination out;
  int64_t chunk = 512, max_tokens = 0;
};

int collect_importance(const Options& options) {
  options.out.require_writable();
  const auto model = options.model.open();
  const TokenizedText text = options.text.read(options.model.location());
  const int64_t chunk_length = std::min(options.chunk, model->config().context);
  std::vector<eval::Chunk> chunks = eval::split_into_chunks(text.documents, chunk_length, text.bos);
  if (options.max_tokens) chunks = eval::sample_chunks(std::move(chunks), options.max_tokens);
  if (chunks.empty()) {
    throw Error(options.text.path().string(), "has no document with at least two tokens");
  }
  uint64_t tokens = 0;
  for (const eval::Chunk& chunk : chunks) tokens += chunk.tokens.size();

  model::ImportanceCollector collector(*model, model->weights());
  io::GgufWriter writer(options.out.path);
  const auto rows = static_cast<size_t>(eval::tokens_per_step(model->config()));
  eval::TeacherForcedScorer scorer(*model, {.context = chunk_length,
                                            .max_batched_tokens = static_cast<int64_t>(rows),
                                            .activation_hook = &collector});
  WriteProgress progress(tokens, "Collecting", "tokens");
  for (const eval::Chunk& chunk : chunks) {
    scorer.begin_chunk();
    for (std::span<const int32_t> remaining = chunk.tokens; !remaining.empty();) {
      const auto step_tokens = remaining.first(std::min(rows, remaining.size()));
      scorer.step(step_tokens);
      progress.advance(step_tokens.size());
      remaining = remaining.subspan(step_tokens.size());
    }
  }
  const auto unseen = collector.unseen_experts();
  collector.write(writer, options.text.path().filename().string(),
                  static_cast<int64_t>(chunks.size()), chunk_length);
  writer.finish();
  fmt::print("{} tokens in {} chunks\n", tokens, chunks.size());
  if (unseen.experts > 0) {
    fmt::print(
        "{} of {} expert matrices received no token; they will be quantized without importance "
        "data\n",
        unseen.experts, unseen.total);
  }
  fmt::print("Wrote {}.\n", escape_for_terminal(options.out.path.string()));
  return kOk;
}

}  // namespace

std::function<int()> imatrix(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  options->model.declare(command);
  options->text.declare(command);
  command.path("-o,--out", options->out.path, "GGUF file to write").required().metavar("OUT.gguf");
  command.flag("--force", options->out.force, "Overwrite OUT.gguf if it exists");
  declare_chunking(command, options->chunk, options->max_tokens);
  command.footer(
      "Records the mean square of each input column of each weight matrix, per expert. `mxgpt\n"
      "quantize` weights its errors by them. Use text that resembles the model's intended use, "
      "and\n"
      "not the text that the quantized model is evaluated on. llama.cpp reads the file as well.\n"
      "Example: mxgpt imatrix -m gpt-oss-20b --text notes.txt -o imatrix.gguf");
  return [options] { return run_interruptible([&] { return collect_importance(*options); }); };
}

}  // namespace mxgpt::cli
