// `mxgpt validate --behaviour PROMPTS.jsonl --reference A --candidate B`.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <numeric>

#include "apps/command.h"
#include "apps/terminal.h"
#include "apps/validate.h"
#include "base/error.h"
#include "base/file_writer.h"
#include "base/json.h"
#include "base/printable.h"
#include "base/progress.h"
#include "numerics/behaviour.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::apps {

namespace {

namespace fs = std::filesystem;

struct Interrupted {};

struct Prompt {
  int64_t line;  ///< in the file, from 1
  std::string text;
  std::vector<int32_t> ids;
};

/// Lines {"prompt": rendered text}, other fields ignored; with `most`, that many of them, evenly
/// spread. Control tokens spelled out are control tokens: prompts are as a chat format renders
/// them.
std::vector<Prompt> read_prompts(const fs::path& path, int64_t most, const Tokenizer& reference,
                                 const Tokenizer& candidate) {
  std::ifstream file(path);
  if (!file) throw Error(path.string(), "cannot be read");
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
      throw Error(where, "the two models' tokenizers make different tokens of it",
                  "only models with the same tokenizer can be compared");
    }
  }
  if (all.empty()) throw Error(path.string(), "holds no prompt");
  const auto count = static_cast<int64_t>(all.size());
  if (most == 0 || most >= count) return all;
  std::vector<Prompt> some;
  for (int64_t i = 0; i < most; ++i) some.push_back(std::move(all[i * count / most]));
  return some;
}

json::array texts(const std::vector<Answer>& answers, const Tokenizer& tokenizer) {
  json::array result;
  for (const Answer& a : answers) result.emplace_back(tokenizer.decode(a.tokens));
  return result;
}

json::object to_json(const std::vector<Prompt>& prompts, const std::vector<PromptAnswers>& answers,
                     const BehaviourVerdict& verdict, const Tokenizer& tokenizer) {
  json::array list;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const PromptVerdict& v = verdict.prompts[i];
    list.push_back(json::object{{"line", prompts[i].line},
                                {"prompt", prompts[i].text},
                                {"flagged", v.flagged},
                                {"mean_kld", v.mean_divergence},
                                {"worst_kld", v.worst_divergence},
                                {"z_mean", v.z_mean},
                                {"z_worst", v.z_worst},
                                {"evidence", v.evidence},
                                {"diverged", v.diverged},
                                {"reference", texts(answers[i].reference, tokenizer)},
                                {"candidate", texts(answers[i].candidate, tokenizer)}});
  }
  return {{"ordinary_kld", verdict.ordinary_divergence},
          {"outlier", BehaviourVerdict::kOutlier},
          {"least_evidence", verdict.least_evidence},
          {"flagged", verdict.flagged},
          {"decides", verdict.decides()},
          {"prompts", std::move(list)}};
}

/// The last message of a prompt, or as much of its end as fits.
std::string ending(const std::string& prompt, size_t width) {
  std::string end = printable(prompt, prompt.size());
  if (end.size() <= width) return end;
  size_t cut = end.size() - width;
  while (cut < end.size() && (static_cast<unsigned char>(end[cut]) & 0xc0) == 0x80) ++cut;
  return "…" + end.substr(cut);
}

void print_table(const std::vector<Prompt>& prompts, const BehaviourVerdict& verdict, int64_t all) {
  constexpr size_t kRows = 12;
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto strange = [&](size_t i) {
    const PromptVerdict& v = verdict.prompts[i];
    return std::pair(v.flagged, std::max(v.z_mean, v.z_worst));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return strange(a) > strange(b); });
  const size_t shown =
      std::min(order.size(), std::max(kRows, static_cast<size_t>(verdict.flagged)));
  fmt::print("{:>6}  {:>9}  {:>9}  {:>6}  {:>9}  {:>10}\n", "line", "KLD/token", "worst", "z",
             "evidence", "diverged");
  for (size_t i = 0; i < shown; ++i) {
    const PromptVerdict& v = verdict.prompts[order[i]];
    fmt::print("{:>6}  {:>9.2e}  {:>9.2e}  {:>6.1f}  {:>9.1f}  {:>5} of {}  {}\n",
               prompts[order[i]].line, v.mean_divergence, v.worst_divergence,
               std::max(v.z_mean, v.z_worst), v.evidence, v.diverged, all,
               v.flagged ? "OTHERWISE" : "");
  }
  if (shown < order.size()) fmt::print("and {} more that stand out less\n", order.size() - shown);
}

int run_behaviour(const ValidateOptions& options) {
  if (options.reference.empty() || options.candidate.empty()) {
    throw Error("validate --behaviour", "needs two models",
                "name them with --reference and --candidate");
  }
  for (const fs::path& path : {options.reference, options.candidate}) {
    if (!fs::exists(path)) throw Error(path.string(), "there is no such model", "check the path");
  }
  const auto reference = Model::open(options.reference), candidate = Model::open(options.candidate);
  if (reference->config().vocabulary != candidate->config().vocabulary) {
    throw Error(options.candidate.string(),
                fmt::format("has a vocabulary of {}, the reference one of {}",
                            candidate->config().vocabulary, reference->config().vocabulary),
                "only models with the same tokens can be compared");
  }
  const auto tokenizer = Tokenizer::load(options.reference);
  const std::vector<Prompt> prompts = read_prompts(options.behaviour, options.max_prompts,
                                                   *tokenizer, *Tokenizer::load(options.candidate));
  std::vector<std::vector<int32_t>> ids;
  for (const Prompt& prompt : prompts) ids.push_back(prompt.ids);

  const CtrlC ctrl_c;
  const std::vector<PromptAnswers> answers = [&] {
    Progress progress("Answering", prompts.size(), "prompts");
    return answer_prompts(*reference, *candidate, ids, reference->stop_tokens(),
                          {.reference = {.precision = options.reference_precision},
                           .candidate = {.device = options.device.device,
                                         .vram_budget = options.device.vram_budget,
                                         .precision = options.precision,
                                         .accumulate = options.accumulate,
                                         .kv = options.kv},
                           .seeds = options.seeds,
                           .max_tokens = options.answer_tokens},
                          [&](int64_t done) {
                            if (CtrlC::pressed()) throw Interrupted();
                            progress.advance(done);
                          });
  }();
  const BehaviourVerdict verdict = judge_behaviour(answers);

  fmt::print("{} prompts, each answered greedily and at {} seeds by\n", prompts.size(),
             options.seeds);
  fmt::print("  reference  {}\n  candidate  {}\n", printable(options.reference.string()),
             printable(options.candidate.string()));
  fmt::print("ordinary divergence: {:.2e} nats a token\n\n", verdict.ordinary_divergence);
  print_table(prompts, verdict, options.seeds + 1);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!verdict.prompts[i].flagged) continue;
    const auto greedy = [&](const Answer& a) {
      return printable(tokenizer->decode(a.tokens), 600);
    };
    fmt::print("\nline {}: {}\n  reference  {}\n  candidate  {}\n", prompts[i].line,
               ending(prompts[i].text, 160), greedy(answers[i].reference[0]),
               greedy(answers[i].candidate[0]));
  }
  if (!options.json.empty()) {
    FileWriter out(options.json);
    out.write(json::serialize(to_json(prompts, answers, verdict, *tokenizer)));
    out.write("\n");
    out.commit();
  }
  fmt::print("\n");
  if (!verdict.decides()) {
    fmt::print("cannot decide: fewer than {} prompts have no ordinary level to stand out from\n",
               BehaviourVerdict::kFewestPrompts);
    return kUsage;
  }
  const bool holds = verdict.flagged <= options.max_flagged;
  fmt::print(
      "{}: {} of {} prompts answered otherwise than the ordinary divergence explains "
      "({} allowed)\n",
      holds ? "holds" : "FAILS", verdict.flagged, prompts.size(), options.max_flagged);
  return holds ? kOk : kFailed;
}

}  // namespace

int validate_behaviour(const ValidateOptions& options) {
  try {
    return run_behaviour(options);
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted\n");
    return 128 + SIGINT;
  }
}

}  // namespace mxgpt::apps
