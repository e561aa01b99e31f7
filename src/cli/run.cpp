// `mxgpt run`: one answer, a chat, or a completion of raw text.
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
  std::string tools, effort, system;
  std::vector<std::string> biases;  // ID=BIAS
  ChatOptions chat;
  bool has_seed = false;
};

std::unordered_map<int32_t, double> parse_biases(const std::vector<std::string>& biases) {
  std::unordered_map<int32_t, double> result;
  for (const std::string& entry : biases) {
    int token = 0, used = 0;
    double bias = 0;
    if (std::sscanf(entry.c_str(), "%d=%lf%n", &token, &bias, &used) != 2 ||
        used != static_cast<int>(entry.size())) {
      throw Error("--logit-bias", fmt::format("'{}' is not ID=BIAS", entry),
                  "write for example 1234=-100");
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
  // The first token of the answer comes with the prompt.
  fmt::print(
      stderr,
      "prompt {} tokens ({} reused), {:.0f} tok/s; answer {} tokens, {:.1f} tok/s; seed {}\n",
      g.prompt_tokens, g.cached_tokens, rate(computed, g.prefill_seconds), g.output_tokens,
      rate(std::max<int64_t>(g.output_tokens - 1, 0), g.decode_seconds), sampling.seed);
}

/// What to say when an answer did not end by itself.
std::string_view ending_note(engine::GenerationEnd ended) {
  switch (ended) {
    case engine::GenerationEnd::stopped:
      return "";
    case engine::GenerationEnd::max_tokens:
      return "[cut off at --max-tokens]";
    case engine::GenerationEnd::context_full:
      return "[the context is full; raise --ctx or start anew]";
    case engine::GenerationEnd::cancelled:
      return "[interrupted]";
  }
  return "";
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

/// Reads the user's lines until the end of input.
void chat_loop(ChatSession& chat, engine::Engine& engine, const Options& options) {
  fmt::print("{}Ask something. /new starts over, Ctrl-C stops an answer, Ctrl-D leaves.{}\n",
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
      if (result.end != engine::GenerationEnd::stopped)
        fmt::print("{}{}{}\n", dim_on(), ending_note(result.end), dim_off());
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
  if (!options.has_seed) sampling.seed = std::random_device()();
  sampling.check(INT32_MAX);  // all but the vocabulary, before anything large is opened
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
      throw Error("prompt", "is empty", "give it as an argument or on standard input");
  }

  const auto model = options.model.open();
  const auto tokenizer = text::Tokenizer::load(options.model.location());
  if (tokenizer->vocab_size() > model->config().vocabulary) {
    throw Error(options.model.location().string(),
                fmt::format("its tokenizer has {} tokens but its embedding only {}",
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
  if (result.end != engine::GenerationEnd::stopped)
    fmt::print(stderr, "{}\n", ending_note(result.end));
  if (options.stats) print_stats(result, sampling);
  return result.end == engine::GenerationEnd::cancelled ? 128 + SIGINT : kOk;
}

}  // namespace

std::function<int()> run(CLI::App& command) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  engine::SamplingParams& sampling = o.chat.generate.sampling;
  o.chat.generate.max_tokens = 4096;
  o.chat.generate.cancelled = SignalGuard::interrupted;

  command.footer(
      "Examples:\n"
      "  mxgpt run \"What is the capital of Norway?\"\n"
      "  mxgpt run                                  chat with the shipped model\n"
      "  mxgpt run -m gpt-oss-20b.gguf --effort high --show-reasoning\n"
      "  mxgpt run -m qwen3-4b.gguf --no-thinking   in the model's own chat format\n"
      "  echo \"Once upon a time\" | mxgpt run --raw --max-tokens 50");
  command
      .add_option("prompt", o.prompt,
                  "What to ask; without it a chat begins, or standard input is read")
      ->type_name("TEXT");
  o.model.declare(command);
  command.add_flag("--raw", o.raw, "Complete the prompt as plain text, without a chat format");
  command
      .add_option("--ctx", o.context,
                  "Longest conversation in tokens (default: the model's, at most 32768)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 28).description(""))
      ->type_name("N");
  o.device.declare(command);
  declare_precision(command, o.precision);
  declare_kv(command, o.kv);
  declare_accumulate(command, o.accumulate);
  command.add_flag("--stats", o.stats, "Print tokens per second at the end");

  command.add_option("--system", o.system, "Instructions for the model")
      ->type_name("TEXT")
      ->group("Chat")
      ->each([options](const std::string& text) { options->chat.system = text; });
  command
      .add_option("--chat-format", o.chat.format,
                  fmt::format("{} (default: by the model's chat template)",
                              fmt::join(text::chat_format_names(), ", ")))
      ->check(CLI::IsMember(text::chat_format_names()).description(""))
      ->type_name("NAME")
      ->group("Chat");
  command
      .add_option("--effort", o.effort,
                  "How much gpt-oss reasons: low, medium or high (default: medium)")
      ->check(CLI::IsMember({"low", "medium", "high"}).description(""))
      ->type_name("LEVEL")
      ->group("Chat");
  command
      .add_flag("--no-thinking", o.chat.no_thinking,
                "Have a Qwen3 model answer without reasoning first")
      ->group("Chat");
  command
      .add_flag("--show-reasoning", o.chat.show_reasoning,
                "Print the reasoning, dimmed, before the answer")
      ->group("Chat");
  command
      .add_option("--tools", o.tools,
                  "JSON file with functions the model may call, as OpenAI's API takes them")
      ->type_name("FILE")
      ->group("Chat");
  command
      .add_option("--schema", o.chat.schema_path,
                  "JSON file with a JSON Schema; the answer is JSON that satisfies it")
      ->type_name("FILE")
      ->group("Chat");

  command
      .add_option("--max-tokens", o.chat.generate.max_tokens,
                  "End an answer after this many tokens; 0 for no limit")
      ->check(CLI::NonNegativeNumber.description(""))
      ->type_name("N")
      ->capture_default_str()
      ->group("Answer");
  command
      .add_option("--stop", o.chat.stops,
                  "End the answer before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group("Answer");
  const auto number = [&](const char* name, auto& value, const char* help) {
    command.add_option(name, value, help)->type_name("X")->capture_default_str()->group("Sampling");
  };
  number("--temperature", sampling.temperature, "0 takes the most likely token, 2 is wild");
  number("--top-k", sampling.top_k, "Draw among the k most likely tokens; 0 among all");
  number("--top-p", sampling.top_p,
         "Draw among the fewest tokens whose probabilities reach this sum");
  number("--min-p", sampling.min_p,
         "Draw among tokens with at least this share of the best one's probability");
  number("--repetition-penalty", sampling.repetition_penalty,
         "Above 1 discourages tokens of prompt and answer");
  number("--presence-penalty", sampling.presence_penalty,
         "Above 0 discourages tokens already in the answer");
  number("--frequency-penalty", sampling.frequency_penalty,
         "Above 0 discourages tokens by their count in the answer");
  command
      .add_option("--seed", sampling.seed, "Same seed, same answer (default: a new one each time)")
      ->type_name("N")
      ->group("Sampling")
      ->each([options](const std::string&) { options->has_seed = true; });
  command
      .add_option("--logit-bias", o.biases,
                  "Add BIAS to a token's logit: ID=BIAS; may be given several times")
      ->type_name("ID=BIAS")
      ->allow_extra_args(false)
      ->group("Sampling");
  return [options, &command] {
    for (const CLI::Option* option : command.get_options()) {
      if (options->raw && option->get_group() == "Chat" && option->count() > 0)
        throw Error(option->get_name(), "is for chats, and --raw is none", "leave one of them out");
    }
    return run_model(*options);
  };
}

}  // namespace mxgpt::cli
