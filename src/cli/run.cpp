// `mxgpt run`: answers one prompt, chats, or completes raw text.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <random>

#include "base/error.h"
#include "cli/chat_session.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "engine/scoring_session.h"
#include "text/chat/known_chat_templates.h"
#include "text/stop_strings.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelOption model;
  DeviceOption device;
  std::string prompt;
  bool raw = false;
  bool stats = false;
  backend::Precision precision = backend::Precision::mixed;
  std::optional<quant::Format> kv;
  kernels::AccumType accumulate = kernels::AccumType::f32;
  int64_t context = 0;
  std::string tools, effort;
  std::vector<std::string> biases;  // ID=BIAS
  ChatOptions chat;
  std::optional<uint64_t> seed;
};

std::unordered_map<int32_t, double> parse_biases(const std::vector<std::string>& biases) {
  std::unordered_map<int32_t, double> result;
  for (const std::string& entry : biases) {
    int token = 0, used = 0;
    double bias = 0;
    if (std::sscanf(entry.c_str(), "%d=%lf%n", &token, &bias, &used) != 2 ||
        used != static_cast<int>(entry.size())) {
      throw Error("--logit-bias", fmt::format("'{}' is not ID=BIAS", entry),
                  "write, for example, 1234=-100");
    }
    result[token] = bias;
  }
  return result;
}

void print_stats(const engine::GenerationResult& g, const engine::SamplingParams& sampling) {
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  const int64_t computed = g.prompt_tokens - g.cached_tokens;
  // The first output token comes with the prompt.
  fmt::print(
      stderr,
      "prompt {} tokens ({} reused), {:.0f} tok/s; output {} tokens, {:.1f} tok/s; seed {}\n",
      g.prompt_tokens, g.cached_tokens, rate(computed, g.prefill_seconds), g.output_tokens,
      rate(std::max<int64_t>(g.output_tokens - 1, 0), g.decode_seconds), sampling.seed);
}

/// Note to print if generation did not end by itself.
std::string_view ending_note(const engine::GenerationResult& result) {
  if (result.finish_reason == engine::FinishReason::cancelled) return "[interrupted]";
  if (result.finish_reason != engine::FinishReason::length) return "";
  return result.context_full ? "[context full; increase --ctx or start a new chat]"
                             : "[stopped at --max-tokens]";
}

engine::GenerationResult complete_raw(const Options& options,
                                      const std::shared_ptr<const text::Tokenizer>& tokenizer,
                                      const runtime::Model& model, engine::Engine& engine) {
  const std::vector<int32_t> prompt =
      tokenizer->encode(options.prompt, {.add_special_tokens = true});
  text::StreamDecoder decoder(tokenizer);
  text::StopStrings stops(options.chat.stops);
  const std::vector<int32_t>& stop_tokens = model.stop_tokens();
  const engine::GenerationResult result =
      engine::generate(engine, prompt, options.chat.generate, [&](int32_t token) {
        if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end())
          return false;
        print_text(stops.push(decoder.push(token)));
        return !stops.stopped();
      });
  print_text(stops.push(decoder.finish()));
  print_text(stops.finish());
  print_text("\n");
  return result;
}

/// Reads prompts until the end of input.
void chat_loop(ChatSession& chat, engine::Engine& engine, const Options& options) {
  fmt::print("{}Ask a question. /new starts a new chat, Ctrl-C stops the output, Ctrl-D quits.{}\n",
             dim_on(), dim_off());
  std::string line;
  while (read_line("> ", line)) {
    SignalGuard::clear();
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (line == "/new") {
      chat.reset();
      continue;
    }
    try {
      const engine::GenerationResult result = chat.ask(engine, line);
      if (result.finish_reason != engine::FinishReason::stop)
        fmt::print("{}{}{}\n", dim_on(), ending_note(result), dim_off());
      if (options.stats) print_stats(result, options.chat.generate.sampling);
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.what());
    }
  }
  fmt::print("\n");
}

int run_model(Options& options) {
  engine::SamplingParams& sampling = options.chat.generate.sampling;
  sampling.logit_bias = parse_biases(options.biases);
  sampling.seed = options.seed ? *options.seed : std::random_device()();
  sampling.check(INT32_MAX);  // before the model is loaded; token ids are checked below
  if (!options.effort.empty()) options.chat.effort = harmony::effort_from_name(options.effort);
  if (!options.tools.empty()) {
    const json::value tools = json::parse_file(options.tools);
    options.chat.tools = harmony::functions_from_json({tools, options.tools + ":"});
  }
  if (!options.chat.schema_path.empty())
    options.chat.schema = json::parse_file(options.chat.schema_path);
  const bool interactive = options.prompt.empty() && stdin_is_terminal() && !options.raw;
  if (options.prompt.empty() && !interactive) {
    options.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    while (options.prompt.ends_with('\n') && !options.raw) options.prompt.pop_back();
    if (options.prompt.empty())
      throw Error("prompt", "is empty", "pass it as an argument or on standard input");
  }

  const auto model = options.model.open();
  const auto tokenizer = text::Tokenizer::load(options.model.location());
  if (tokenizer->vocab_size() > model->config().vocabulary) {
    throw Error(options.model.location().string(),
                fmt::format("the tokenizer has {} tokens, but the embedding has only {}",
                            tokenizer->vocab_size(), model->config().vocabulary));
  }
  sampling.check(model->config().vocabulary);
  const auto chat =
      options.raw ? nullptr : std::make_unique<ChatSession>(*model, tokenizer, options.chat);
  engine::EngineOptions engine_options = engine::single_request_options(
      options.device.device, options.context, options.precision, options.kv);
  engine_options.accum_type = options.accumulate;
  engine_options.vram_budget = options.device.vram_budget;
  engine_options.no_offload = options.device.no_offload;
  const ProfileFile profile(options.device);
  engine::Engine engine(*model, engine_options);

  const SignalGuard signal_guard;
  if (options.raw) {
    options.chat.generate.stop_tokens = model->stop_tokens();
    const engine::GenerationResult result = complete_raw(options, tokenizer, *model, engine);
    if (options.stats) print_stats(result, sampling);
    return kOk;
  }
  if (interactive) {
    chat_loop(*chat, engine, options);
    return kOk;
  }
  const engine::GenerationResult result = chat->ask(engine, options.prompt);
  if (result.finish_reason != engine::FinishReason::stop)
    fmt::print(stderr, "{}\n", ending_note(result));
  if (options.stats) print_stats(result, sampling);
  return result.finish_reason == engine::FinishReason::cancelled ? 128 + SIGINT : kOk;
}

}  // namespace

std::function<int()> run(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  engine::SamplingParams& sampling = o.chat.generate.sampling;
  o.chat.generate.max_tokens = 4096;
  o.chat.generate.cancelled = SignalGuard::interrupted;

  command.footer(
      "Examples:\n"
      "  mxgpt run \"What is the capital of Norway?\"\n"
      "  mxgpt run                                  chat with the shipped model\n"
      "  mxgpt run -m gpt-oss-20b.gguf --reasoning-effort high --show-reasoning\n"
      "  mxgpt run -m qwen3-4b.gguf --no-thinking   chat without Qwen3's reasoning\n"
      "  echo \"Once upon a time\" | mxgpt run --raw --max-tokens 50");
  command.text("prompt", o.prompt,
               "Prompt to answer (default: chat if standard input is a terminal, else read it)");
  o.model.declare(command);
  command.flag("--raw", o.raw, "Complete the prompt as plain text, without a chat template");
  command.integer("--ctx", o.context, 2, int64_t{1} << 28,
                  fmt::format("Context length in tokens (default: the model's, at most {})",
                              engine::kDefaultContext));
  o.device.declare(command);
  declare_precision(command, o.precision);
  declare_kv(command, o.kv);
  declare_accumulate(command, o.accumulate);
  command.flag("--stats", o.stats, "Print token counts and speed to standard error");

  constexpr const char* kChat = "Chat";
  command.text("--system", o.chat.system, "System prompt").group(kChat);
  command
      .name("--chat-format", o.chat.format, text::chat_format_names(),
            fmt::format("Chat format: {} (default: detected from the model's chat template)",
                        fmt::join(text::chat_format_names(), ", ")))
      .group(kChat);
  command
      .name("--reasoning-effort|--effort", o.effort, {"low", "medium", "high"},
            "Reasoning effort of gpt-oss: low, medium or high (default: medium)")
      .metavar("LEVEL")
      .group(kChat);
  command.flag("--no-thinking", o.chat.no_thinking, "Disable Qwen3's reasoning").group(kChat);
  command.flag("--show-reasoning", o.chat.show_reasoning, "Print the reasoning, dimmed")
      .group(kChat);
  command
      .text("--tools", o.tools,
            "JSON file with functions that the model may call, in OpenAI's format")
      .metavar("FILE")
      .group(kChat);
  command
      .text("--schema", o.chat.schema_path,
            "JSON file with a JSON Schema; the output is JSON that satisfies it")
      .metavar("FILE")
      .group(kChat);

  constexpr const char* kOutput = "Output";
  command
      .integer("--max-tokens", o.chat.generate.max_tokens, 0, int64_t{1} << 40,
               "Maximum tokens to generate; 0: no limit")
      .default_text(fmt::format("{}", o.chat.generate.max_tokens))
      .group(kOutput);
  command.texts("--stop", o.chat.stops, "Stop before this text; repeatable").group(kOutput);

  constexpr const char* kSampling = "Sampling";
  const auto number = [&](const char* name, double& value, const char* help) {
    command.number(name, value, help).group(kSampling);
  };
  number("--temperature", sampling.temperature, "0: greedy; higher is more random (max 2)");
  command
      .integer("--top-k", sampling.top_k, INT32_MIN, INT32_MAX,
               "Sample from the k most likely tokens; 0: all")
      .default_text(fmt::format("{}", sampling.top_k))
      .group(kSampling);
  number("--top-p", sampling.top_p,
         "Sample from the smallest set of tokens with this total probability");
  number("--min-p", sampling.min_p,
         "Sample from tokens with at least this fraction of the top token's probability");
  number("--repetition-penalty", sampling.repetition_penalty,
         "Above 1: penalize tokens that occur in the prompt or output");
  number("--presence-penalty", sampling.presence_penalty,
         "Above 0: penalize tokens that occur in the output");
  number("--frequency-penalty", sampling.frequency_penalty,
         "Above 0: penalize tokens by their count in the output");
  command
      .integer("--seed", o.seed, 0, std::numeric_limits<uint64_t>::max(),
               "Random seed (default: a new one for each run)")
      .group(kSampling);
  command.texts("--logit-bias", o.biases, "Add BIAS to the logit of token ID; repeatable")
      .metavar("ID=BIAS")
      .group(kSampling);
  return [options, command] {
    if (const std::string chat = command.first_given(kChat); options->raw && !chat.empty())
      throw Error(chat, "cannot be combined with --raw", "remove one of them");
    return run_model(*options);
  };
}

}  // namespace mxgpt::cli
