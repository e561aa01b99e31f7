// `mxgpt validate --prompts PROMPTS.jsonl --reference A --candidate B`.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "base/escape.h"
#include "base/file_writer.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/terminal.h"
#include "cli/validate.h"
#include "eval/divergence.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

struct Interrupted {};

struct Prompt {
  int64_t line;  ///< in the file, from 1
  std::string text;
  std::vector<int32_t> ids;
};

/// Reads one {"prompt": rendered text} per line and ignores other fields. `max_prompts` > 0 selects
/// that many, evenly spread. Control tokens are parsed, since prompts are rendered by a chat
/// template.
std::vector<Prompt> read_prompts(const fs::path& path, int64_t max_prompts,
                                 const text::Tokenizer& reference,
                                 const text::Tokenizer& candidate) {
  std::ifstream file(path);
  if (!file) throw Error(path.string(), "cannot be opened");
  std::vector<Prompt> all;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.empty()) continue;
    const std::string where = fmt::format("{}, line {}", path.string(), number);
    const json::value document = json::parse(line, where);
    Prompt& prompt = all.emplace_back(
        Prompt{number, std::string(json::Node(document, where + ":")["prompt"].string()), {}});
    prompt.ids = reference.encode(prompt.text);
    if (prompt.ids.empty()) throw Error(where, "the prompt is empty");
    if (candidate.encode(prompt.text) != prompt.ids) {
      throw Error(where, "the two tokenizers give different tokens",
                  "only models with the same tokenizer can be compared");
    }
  }
  if (all.empty()) throw Error(path.string(), "has no prompts");
  const auto count = static_cast<int64_t>(all.size());
  if (max_prompts == 0 || max_prompts >= count) return all;
  std::vector<Prompt> sampled;
  for (int64_t i = 0; i < max_prompts; ++i)
    sampled.push_back(std::move(all[i * count / max_prompts]));
  return sampled;
}

json::array completion_texts(const std::vector<eval::ScoredCompletion>& completions,
                             const text::Tokenizer& tokenizer) {
  json::array result;
  for (const eval::ScoredCompletion& a : completions)
    result.emplace_back(tokenizer.decode(a.tokens));
  return result;
}

json::object to_json(const std::vector<Prompt>& prompts,
                     const std::vector<eval::PromptCompletions>& completions,
                     const eval::DivergenceVerdict& verdict, const text::Tokenizer& tokenizer) {
  json::array list;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const eval::PromptVerdict& v = verdict.prompts[i];
    list.push_back(
        json::object{{"line", prompts[i].line},
                     {"prompt", prompts[i].text},
                     {"flagged", v.flagged},
                     {"mean_kld", v.mean_divergence},
                     {"max_kld", v.max_divergence},
                     {"z_mean", v.z_mean},
                     {"z_max", v.z_max},
                     {"log_likelihood_ratio", v.log_likelihood_ratio},
                     {"diverged", v.diverged},
                     {"reference", completion_texts(completions[i].reference, tokenizer)},
                     {"candidate", completion_texts(completions[i].candidate, tokenizer)}});
  }
  return {{"median_kld", verdict.median_divergence},
          {"outlier", eval::DivergenceVerdict::kOutlierZScore},
          {"min_log_likelihood_ratio", verdict.min_log_likelihood_ratio},
          {"flagged", verdict.flagged},
          {"conclusive", verdict.is_conclusive()},
          {"prompts", std::move(list)}};
}

/// The end of a prompt, up to `width` bytes.
std::string tail_of(const std::string& prompt, size_t width) {
  std::string end = escape_for_terminal(prompt, prompt.size());
  if (end.size() <= width) return end;
  size_t cut = end.size() - width;
  while (cut < end.size() && (static_cast<unsigned char>(end[cut]) & 0xc0) == 0x80) ++cut;
  return "…" + end.substr(cut);
}

void print_table(const std::vector<Prompt>& prompts, const eval::DivergenceVerdict& verdict,
                 int64_t total_completions) {
  constexpr size_t kRows = 12;
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto sort_key = [&](size_t i) {
    const eval::PromptVerdict& v = verdict.prompts[i];
    return std::pair(v.flagged, std::max(v.z_mean, v.z_max));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sort_key(a) > sort_key(b); });
  const size_t shown =
      std::min(order.size(), std::max(kRows, static_cast<size_t>(verdict.flagged)));
  fmt::print("{:>6}  {:>9}  {:>9}  {:>6}  {:>9}  {:>10}\n", "line", "KLD/token", "max KLD", "z",
             "ln LR", "diverged");
  for (size_t i = 0; i < shown; ++i) {
    const eval::PromptVerdict& v = verdict.prompts[order[i]];
    fmt::print("{:>6}  {:>9.2e}  {:>9.2e}  {:>6.1f}  {:>9.1f}  {:>5} of {}  {}\n",
               prompts[order[i]].line, v.mean_divergence, v.max_divergence,
               std::max(v.z_mean, v.z_max), v.log_likelihood_ratio, v.diverged, total_completions,
               v.flagged ? "DIVERGES" : "");
  }
  if (shown < order.size()) fmt::print("and {} more with lower z\n", order.size() - shown);
}

int run_divergence_test(const ValidateOptions& options) {
  if (options.reference.empty() || options.candidate.empty()) {
    throw Error("validate --prompts", "needs two models", "set --reference and --candidate");
  }
  for (const fs::path& path : {options.reference, options.candidate}) {
    if (!fs::exists(path)) throw Error(path.string(), "model not found", "check the path");
  }
  const auto reference = runtime::Model::open(options.reference),
             candidate = runtime::Model::open(options.candidate);
  if (reference->config().vocabulary != candidate->config().vocabulary) {
    throw Error(options.candidate.string(),
                fmt::format("has a vocabulary of {}, the reference one of {}",
                            candidate->config().vocabulary, reference->config().vocabulary),
                "only models with the same tokens can be compared");
  }
  const auto tokenizer = text::Tokenizer::load(options.reference);
  const std::vector<Prompt> prompts = read_prompts(options.prompts, options.max_prompts, *tokenizer,
                                                   *text::Tokenizer::load(options.candidate));
  std::vector<std::vector<int32_t>> ids;
  for (const Prompt& prompt : prompts) ids.push_back(prompt.ids);

  const SignalGuard signal_guard;
  const std::vector<eval::PromptCompletions> completions = [&] {
    Progress progress("Completing", prompts.size(), "prompts");
    return eval::complete_prompts(*reference, *candidate, ids, reference->stop_tokens(),
                                  {.reference = {.precision = options.reference_precision},
                                   .candidate = {.device = options.device.device,
                                                 .vram_budget = options.device.vram_budget,
                                                 .precision = options.precision,
                                                 .accum_type = options.accumulate,
                                                 .kv_format = options.kv},
                                   .seeds = options.seeds,
                                   .max_tokens = options.max_completion_tokens},
                                  [&](int64_t done) {
                                    if (SignalGuard::interrupted()) throw Interrupted();
                                    progress.advance(done);
                                  });
  }();
  const eval::DivergenceVerdict verdict = eval::evaluate_divergence(completions);

  fmt::print("{} prompts, each completed greedily and with {} seeds\n", prompts.size(),
             options.seeds);
  fmt::print("  reference  {}\n  candidate  {}\n", escape_for_terminal(options.reference.string()),
             escape_for_terminal(options.candidate.string()));
  fmt::print("median divergence: {:.2e} nats per token\n\n", verdict.median_divergence);
  print_table(prompts, verdict, options.seeds + 1);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!verdict.prompts[i].flagged) continue;
    const auto greedy = [&](const eval::ScoredCompletion& a) {
      return escape_for_terminal(tokenizer->decode(a.tokens), 600);
    };
    fmt::print("\nline {}: {}\n  reference  {}\n  candidate  {}\n", prompts[i].line,
               tail_of(prompts[i].text, 160), greedy(completions[i].reference[0]),
               greedy(completions[i].candidate[0]));
  }
  if (!options.json.empty()) {
    FileWriter out(options.json);
    out.write(json::serialize(to_json(prompts, completions, verdict, *tokenizer)));
    out.write("\n");
    out.commit();
  }
  fmt::print("\n");
  if (!verdict.is_conclusive()) {
    fmt::print("inconclusive: outliers cannot be identified among fewer than {} prompts\n",
               eval::DivergenceVerdict::kMinPrompts);
    return kInconclusive;
  }
  const bool passes = verdict.flagged <= options.max_flagged;
  fmt::print("{}: {} of {} prompts diverge beyond the usual level ({} allowed)\n",
             passes ? "pass" : "FAIL", verdict.flagged, prompts.size(), options.max_flagged);
  return passes ? kOk : kFailed;
}

}  // namespace

int validate_divergence(const ValidateOptions& options) {
  try {
    return run_divergence_test(options);
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted\n");
    return 128 + SIGINT;
  }
}

}  // namespace mxgpt::cli
