// `mxgpt validate`: options and selection of the mode.
#include "cli/validate.h"

#include <fmt/format.h>

#include <csignal>

#include "cli/command.h"
#include "cli/terminal.h"

namespace mxgpt::cli {

namespace {

constexpr const char* kFooter =
    "A and B are GGUF files or checkpoint directories; they may be one model at two precisions. A\n"
    "may also be a safetensors file of log-probabilities, as written by `mxgpt logits`. With\n"
    "--source, both are also compared with the model that they were quantized from, and each may "
    "be\n"
    "a recipe of `mxgpt quantize` instead of a file.\n"
    "\n"
    "Exit code: 0 if every bound passes or none is given; 1 if a bound fails, and for errors; 2 "
    "if\n"
    "the text is too short to decide (the confidence interval crosses a bound), and for wrong "
    "usage.\n"
    "\n"
    "Examples:\n"
    "  mxgpt validate --reference nano --candidate nano.gguf --text eval.jsonl --max-kld 2e-3\n"
    "  mxgpt validate --reference q4_k_m --candidate mxfp4-all --source nano --precision exact \\\n"
    "      --text eval.jsonl --equivalence 0.01 --html report.html\n"
    "  mxgpt validate --kernels\n"
    "  mxgpt validate --self-check model.gguf\n"
    "  mxgpt validate --prompts prompts.jsonl --reference nano --candidate nano.gguf\n"
    "docs/validation.md describes the methods.";

}  // namespace

std::function<int()> validate(CommandOptions& command) {
  auto options = std::make_shared<ValidateOptions>();
  ValidateOptions& o = *options;
  command.path("--reference", o.reference, "Reference: a model or stored log-probabilities")
      .metavar("A");
  command.path("--candidate", o.candidate, "Model under test").metavar("B");
  command.path("--source", o.source, "Model that A and B were quantized from").metavar("S");
  o.text.declare(command);
  declare_chunking(command, o.chunk, o.max_tokens);
  declare_precision(command, o.precision);
  declare_precision(command, o.reference_precision, "--reference-precision", "exact");
  declare_accumulate(command, o.accumulate);
  declare_kv(command, o.kv);
  o.device.declare(command);
  command.path("--json", o.json, "Write all results as JSON").group("Report");
  command.path("--html", o.html, "Write a self-contained HTML report with plots").group("Report");

  const auto bound = [&](const char* name, std::optional<double>& value, const char* help,
                         double max = 1e9) {
    command.number(name, value, 0, max, help).group("Bounds");
  };
  bound("--max-kld", o.criteria.max_kld, "Mean KL divergence from A, in nats");
  bound("--max-kld-p99", o.criteria.max_kld_p99, "99th percentile of the KL divergence");
  bound("--min-top1", o.criteria.min_top1,
        "Fraction of positions with the same most likely token, 0 to 1", 1);
  bound("--max-ln-ppl", o.criteria.max_ln_ppl, "|ln(PPL of B / PPL of A)|");
  bound("--equivalence", o.criteria.equivalence,
        "As --max-ln-ppl, and at least 50,000 scored tokens; 0.01: equivalent within 1%");
  bound("--max-logprob-error", o.criteria.max_logprob_error,
        "Largest |Δ log-probability| over A's top 8 tokens");
  command.footer(kFooter);

  constexpr const char* kOther = "Other checks, instead of comparing on a text";
  command
      .flag("--kernels", o.kernels,
            "Check every kernel on this machine against double precision; needs no model")
      .group(kOther);
  command
      .path("--self-check|--model", o.model,
            "Check one model against itself: batching, cache reuse, prefill and decode must agree")
      .metavar("M")
      .group(kOther);
  const Option prompts =
      command
          .path(
              "--prompts|--behaviour", o.prompts,
              "Compare the completions of A and B for these prompts, one {\"prompt\": …} per line; "
              "report prompts on which they diverge")
          .metavar("PROMPTS.jsonl")
          .group(kOther);
  const auto divergence_option = [&](const char* name, int64_t& value, int64_t min,
                                     const char* help) {
    command.integer(name, value, min, int64_t{1} << 20, help)
        .default_text(fmt::format("{}", value))
        .needs(prompts)
        .group(kOther);
  };
  divergence_option("--seeds", o.seeds, 1,
                    "Sampled completions per prompt, besides the greedy one");
  divergence_option("--max-completion-tokens|--answer-tokens", o.max_completion_tokens, 1,
                    "Maximum tokens per completion");
  divergence_option("--max-prompts", o.max_prompts, 0,
                    "Use this many prompts, evenly spread; 0: all");
  divergence_option("--max-flagged", o.max_flagged, 0, "Diverging prompts to tolerate");
  return [options]() -> int {
    if (options->kernels) return validate_kernels(*options);
    if (!options->model.empty()) return validate_self(*options);
    if (!options->prompts.empty()) return validate_divergence(*options);
    return validate_models(*options);
  };
}

}  // namespace mxgpt::cli
