// The commands of the `mxgpt` program: one file per command, one line in the list below.
#pragma once

#include <functional>

#include "cli/options.h"

namespace mxgpt::cli {

/// Exit codes. A command returns one of them, or throws Error, which main prints as one line.
/// kInconclusive is for `validate` alone: the data do not suffice to judge a bound.
enum ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kInconclusive = 2 };

/// Declares a command's options and returns the function that runs it.
using Declare = std::function<int()> (*)(CommandOptions& command);

struct Command {
  const char* name;
  const char* summary;
  Declare declare;
};

std::function<int()> bench(CommandOptions& command);
std::function<int()> convert(CommandOptions& command);
std::function<int()> detokenize(CommandOptions& command);
std::function<int()> harmony(CommandOptions& command);
std::function<int()> imatrix(CommandOptions& command);
std::function<int()> inspect(CommandOptions& command);
std::function<int()> logits(CommandOptions& command);
std::function<int()> perplexity(CommandOptions& command);
std::function<int()> plan(CommandOptions& command);
std::function<int()> quantize(CommandOptions& command);
std::function<int()> run(CommandOptions& command);
std::function<int()> serve(CommandOptions& command);
std::function<int()> synth(CommandOptions& command);
std::function<int()> tokenize(CommandOptions& command);
std::function<int()> validate(CommandOptions& command);
std::function<int()> verify(CommandOptions& command);

inline constexpr Command kRunCommand{"run", "Chat, answer one prompt, or complete text", run};

inline constexpr Command kCommands[] = {
    kRunCommand,
    {"serve", "Serve a model over HTTP (OpenAI and Anthropic APIs)", serve},
    {"plan", "Show how much memory a model needs, without loading it", plan},
    {"bench", "Measure prefill and decode speed", bench},
    {"convert", "Convert a checkpoint to a GGUF file", convert},
    {"quantize", "Quantize a model by a recipe", quantize},
    {"perplexity", "Compute the perplexity of a text", perplexity},
    {"validate", "Compare a model with a reference and check bounds", validate},
    {"imatrix", "Compute an importance matrix for quantize", imatrix},
    {"synth", "Write a model with random weights, for benchmarks", synth},
    {"logits", "Write log-probabilities for given token ids", logits},
    {"inspect", "Print a model's metadata, tensors and tokenizer", inspect},
    {"verify", "Check a model's files by SHA-256", verify},
    {"tokenize", "Convert text to token ids", tokenize},
    {"detokenize", "Convert token ids to text", detokenize},
    {"harmony", "Render conversations to Harmony tokens, or parse tokens", harmony},
};

}  // namespace mxgpt::cli
