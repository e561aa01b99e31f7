// A command of the `mxgpt` program: one file in apps/ and one line in the list at the end of this
// header.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mxgpt::cli {

/// Exit codes of the program; a command returns one of them or throws Error, which main prints as
/// one line.
/// `validate` alone has a third outcome, that its data cannot decide.
enum ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kUndecided = 2 };

/// Declares the options of a command on `command` and returns what runs if it was chosen.
using Declare = std::function<int()> (*)(CLI::App& command);

struct Command {
  const char* name;
  const char* summary;
  Declare declare;
};

std::function<int()> bench(CLI::App& command);
std::function<int()> convert(CLI::App& command);
std::function<int()> detokenize(CLI::App& command);
std::function<int()> harmony(CLI::App& command);
std::function<int()> imatrix(CLI::App& command);
std::function<int()> inspect(CLI::App& command);
std::function<int()> logits(CLI::App& command);
std::function<int()> perplexity(CLI::App& command);
std::function<int()> plan(CLI::App& command);
std::function<int()> quantize(CLI::App& command);
std::function<int()> run(CLI::App& command);
std::function<int()> serve(CLI::App& command);
std::function<int()> synth(CLI::App& command);
std::function<int()> tokenize(CLI::App& command);
std::function<int()> validate(CLI::App& command);
std::function<int()> verify(CLI::App& command);

inline constexpr Command kCommands[] = {
    {"run", "Answer a prompt, chat, or complete text", run},
    {"serve", "Answer over HTTP, as OpenAI's API does", serve},
    {"plan", "Show the memory that a model will take", plan},
    {"bench", "Measure prefill and decode against the memory's speed", bench},
    {"convert", "Turn a checkpoint into a GGUF file", convert},
    {"quantize", "Write a model in another format, by a recipe", quantize},
    {"perplexity", "Score a text: negative log-likelihood and perplexity", perplexity},
    {"validate", "Compare a model with its reference and hold it to bounds", validate},
    {"imatrix", "Observe what weights meet on a text, for quantize", imatrix},
    {"synth", "Write a model of a real shape with random weights", synth},
    {"logits", "Write log-probabilities for given token ids", logits},
    {"inspect", "Show what a model file says of itself", inspect},
    {"verify", "Check a model's files by SHA-256", verify},
    {"tokenize", "Turn text into token ids", tokenize},
    {"detokenize", "Turn token ids into text", detokenize},
    {"harmony", "Render conversations to Harmony tokens, or parse tokens into messages", harmony},
};

}  // namespace mxgpt::cli
