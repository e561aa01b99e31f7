// `mxgpt validate`: its options, and which mode they ask for.
#include "cli/validate.h"

#include <fmt/format.h>

#include <csignal>

#include "cli/command.h"
#include "cli/terminal.h"

namespace mxgpt::cli {

namespace {

constexpr const char* kFooter =
    "A and B are GGUF files or checkpoint directories, and may be the same at two precisions; A "
    "may be a\n"
    "safetensors file of log-probabilities as `mxgpt logits` writes it. With --source, both are "
    "also compared\n"
    "with the model that they were made from, and may be recipes of `mxgpt quantize` to apply to "
    "it.\n"
    "\n"
    "Exit code: 0 if all bounds hold (or none is given), 1 if one fails or on an error, 2 if the "
    "data cannot\n"
    "decide: an interval reaches across its bound, or there are too few tokens (also for wrong "
    "usage, and then\n"
    "nothing is compared).\n"
    "\n"
    "With --kernels, --model M or --behaviour, another check is run instead: docs/validation.md.\n"
    "\n"
    "Examples:\n"
    "  mxgpt validate --reference nano --candidate nano.gguf --text eval.jsonl --max-kld 2e-3 "
    "--min-top1 0.985\n"
    "  mxgpt validate --reference q4_k_m --candidate mxfp4-all --source nano --precision exact \\\n"
    "      --text eval.jsonl --equivalence 0.01 --html report.html\n"
    "  mxgpt validate --kernels\n"
    "  mxgpt validate --model model.gguf\n"
    "  mxgpt validate --behaviour prompts.jsonl --reference nano --candidate nano.gguf";

void declare_bound(CLI::App& command, const char* name, std::optional<double>& bound,
                   const char* help, double max_value) {
  command.add_option(name, bound, help)
      ->check(CLI::Range(0.0, max_value).description(""))
      ->type_name("X")
      ->group("Bounds");
}

}  // namespace

std::function<int()> validate(CLI::App& command) {
  auto options = std::make_shared<ValidateOptions>();
  ValidateOptions& o = *options;
  command.add_option("--reference", o.reference, "What is right: a model, or stored logprobs")
      ->type_name("A");
  command.add_option("--candidate", o.candidate, "The model that is judged")->type_name("B");
  command.add_option("--source", o.source, "The model that A and B were quantized from")
      ->type_name("S");
  o.text.declare(command);
  declare_chunking(command, o.chunk, o.max_tokens);
  declare_precision(command, o.precision);
  declare_precision(command, o.reference_precision, "--reference-precision", "exact");
  declare_accumulate(command, o.accumulate);
  declare_kv(command, o.kv);
  o.device.declare(command);
  command.add_option("--json", o.json, "Write all figures")->type_name("FILE")->group("Report");
  command
      .add_option("--html", o.html, "Write a report with plots, in one page that needs no other")
      ->type_name("FILE")
      ->group("Report");
  constexpr double kAny = 1e9;
  declare_bound(command, "--max-kld", o.criteria.max_kld, "Mean KL divergence from A, in nats",
                kAny);
  declare_bound(command, "--max-kld-p99", o.criteria.max_kld_p99, "Its 99th percentile", kAny);
  declare_bound(command, "--min-top1", o.criteria.min_top1,
                "Share of positions with the same most likely token, 0 to 1", 1);
  declare_bound(command, "--max-ln-ppl", o.criteria.max_ln_ppl, "|ln(PPL of B / PPL of A)|", kAny);
  declare_bound(command, "--equivalence", o.criteria.equivalence,
                "The same, and 50,000 scored tokens are needed; 0.01 is 'within 1%'", kAny);
  declare_bound(command, "--max-logprob-error", o.criteria.max_logprob_error,
                "Largest |difference of a log-probability| over A's 8 best tokens", kAny);
  command.footer(kFooter);

  const auto mode = [&](CLI::Option* option) {
    return option->group("Without a text to compare on");
  };
  mode(command.add_flag("--kernels", o.kernels,
                        "Every kernel of this machine against double precision, no model needed"));
  mode(command.add_option("--model", o.model,
                          "Self-checks, which need no reference: batch equals alone, cache reuse "
                          "equals recompute, …"))
      ->type_name("M");
  CLI::Option* prompts = mode(command.add_option(
      "--behaviour", o.prompts,
      "Answers of A and B to these prompts, a JSON object with \"prompt\" a line; names those that "
      "B answers otherwise"));
  prompts->type_name("PROMPTS.jsonl");
  const auto divergence_option = [&](const char* name, int64_t& value, int64_t min_value,
                                     const char* help) {
    mode(command.add_option(name, value, help))
        ->needs(prompts)
        ->check(CLI::Range(min_value, int64_t{1} << 20).description(""))
        ->type_name("N")
        ->capture_default_str();
  };
  divergence_option("--seeds", o.seeds, 1, "Sampled answers to each prompt, beside the greedy one");
  divergence_option("--answer-tokens", o.max_completion_tokens, 1, "Most tokens of an answer");
  divergence_option("--max-prompts", o.max_prompts, 0, "Take so many, evenly spread; 0: all");
  divergence_option("--max-flagged", o.max_flagged, 0, "Prompts that may be answered otherwise");
  return [options]() -> int {
    if (options->kernels) return validate_kernels(*options);
    if (!options->model.empty()) return validate_self(*options);
    if (!options->prompts.empty()) return validate_divergence(*options);
    return validate_models(*options);
  };
}

}  // namespace mxgpt::cli
