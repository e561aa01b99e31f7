// `mxgpt imatrix`: what a model's weights meet on a text, for `mxgpt quantize --imatrix`.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "apps/command.h"
#include "apps/gguf_output.h"
#include "apps/model_option.h"
#include "apps/text_option.h"
#include "base/error.h"
#include "base/printable.h"
#include "numerics/importance.h"
#include "numerics/score.h"

namespace mxgpt::apps {

namespace {

struct Options {
  ModelOption model;
  TextOption text;
  GgufOutput out;
  int64_t chunk = 512, max_tokens = 0;
};

int collect(const Options& options) {
  options.out.check();
  const auto model = options.model.open();
  const Text text = options.text.read(options.model.location());
  const int64_t length = std::min(options.chunk, model->config().context);
  std::vector<Piece> pieces = cut_into_pieces(text.documents, length, text.bos);
  if (options.max_tokens) pieces = spread(std::move(pieces), options.max_tokens);
  if (pieces.empty()) {
    throw Error(options.text.path().string(),
                "has no document of two tokens; there is nothing to learn from");
  }
  uint64_t tokens = 0;
  for (const Piece& piece : pieces) tokens += piece.tokens.size();

  ImportanceCollector collector(*model);
  GgufWriter writer(options.out.path);
  const auto rows = static_cast<size_t>(rows_a_step(model->config()));
  Teacher teacher(
      *model, {.context = length, .max_rows = static_cast<int64_t>(rows), .observer = &collector});
  WriteProgress progress(tokens, "Observing", "tokens");
  for (const Piece& piece : pieces) {
    teacher.begin_piece();
    for (std::span<const int32_t> left = piece.tokens; !left.empty();) {
      const auto part = left.first(std::min(rows, left.size()));
      teacher.step(part);
      progress.advance(part.size());
      left = left.subspan(part.size());
    }
  }
  const auto unseen = collector.unseen();
  collector.write(writer, options.text.path().filename().string(),
                  static_cast<int64_t>(pieces.size()), length);
  writer.finish();
  fmt::print("{} tokens in {} pieces\n", tokens, pieces.size());
  if (unseen.experts > 0) {
    fmt::print("{} of {} expert matrices met no token; they will be quantized without importance\n",
               unseen.experts, unseen.of);
  }
  fmt::print("Wrote {}.\n", printable(options.out.path.string()));
  return kOk;
}

}  // namespace

std::function<int()> imatrix(CLI::App& command) {
  auto options = std::make_shared<Options>();
  options->model.declare(command);
  options->text.declare(command);
  command.add_option("-o,--out", options->out.path, "The GGUF file to write")
      ->required()
      ->type_name("OUT.gguf");
  command.add_flag("--force", options->out.force, "Replace OUT.gguf if it exists");
  declare_pieces(command, options->chunk, options->max_tokens);
  command.footer(
      "Collects for each column of each weight the mean square of what it is multiplied with, for "
      "each expert on\n"
      "its own. Quantizers then lower the errors that matter. The text should resemble what the "
      "model is used for,\n"
      "and not be the text on which the quantized model is judged. llama.cpp reads the file too.\n"
      "Example: mxgpt imatrix -m gpt-oss-20b --text notes.txt -o imatrix.gguf");
  return [options] { return interruptible([&] { return collect(*options); }); };
}

}  // namespace mxgpt::apps
