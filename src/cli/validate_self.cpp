// `mxgpt validate --self-check M`.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/escape.h"
#include "base/file_writer.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/validate.h"
#include "eval/self_check.h"
#include "runtime/model.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::cli {

namespace {

/// Default text.
constexpr std::string_view kText =
    "The harbour wakes before the town does. At four the first boats come in with their lamps "
    "still "
    "burning, and the men on the quay throw ropes to hands that they cannot see. Crates of herring "
    "are lifted out, counted, and pushed on barrows to the long shed, where a clerk writes the "
    "name "
    "of every boat and the weight of its catch into a book with a green cover. By six the sun "
    "stands "
    "above the breakwater. The gulls have found the barrows, the baker has opened his door, and "
    "the "
    "smell of bread goes up the hill between the houses. Children are sent down with a coin for a "
    "loaf; they take the long way, past the boats, and ask the same questions as the day before: "
    "how "
    "far out did you go, how deep is it there, and did you see the whale? Nobody has seen the "
    "whale "
    "since March, but every boat has heard it, or has spoken to someone who did. At noon the wind "
    "turns. The clerk closes his book, adds up eleven columns, finds that they agree, and goes "
    "home "
    "to sleep, and for an hour the harbour belongs to the cats.";

std::vector<int32_t> text_of(const ValidateOptions& options) {
  if (!options.text.is_set()) return text::Tokenizer::load(options.model)->encode(kText);
  const TokenizedText text = options.text.read(options.model);
  const auto longest =
      std::max_element(text.documents.begin(), text.documents.end(),
                       [](const auto& a, const auto& b) { return a.size() < b.size(); });
  std::vector<int32_t> ids;
  if (text.bos) ids.push_back(*text.bos);
  ids.insert(ids.end(), longest->begin(), longest->end());
  return ids;
}

}  // namespace

int validate_self(const ValidateOptions& options) {
  using enum eval::SelfCheckResult::Status;
  if (!std::filesystem::exists(options.model)) {
    throw Error(options.model.string(), "model not found", "check the path");
  }
  const auto model = runtime::Model::open(options.model);
  const std::vector<eval::SelfCheckResult> results = eval::self_check(
      {model->architecture(), model->config(), model->weights(options.device.device),
       options.accumulate, options.kv, options.device.device},
      text_of(options));
  fmt::print("{}: {}\n\n", escape_for_terminal(options.model.string()),
             model->config().architecture);
  fmt::print("{:<50}  {:>9}  {:>9}  {}\n", "check", "measured", "bound", "measure");
  json::array list;
  int64_t failed = 0;
  for (const eval::SelfCheckResult& r : results) {
    json::object entry{{"check", r.name}};
    if (r.status == not_applicable) {
      fmt::print("{:<50}  not applicable: {}\n", r.name, r.measure);
      entry["not_applicable"] = r.measure;
    } else {
      fmt::print("{:<50}  {:>9.2e}  {:>9.2e}  {}{}\n", r.name, r.measured, r.bound, r.measure,
                 r.status == fail ? "  FAIL" : "");
      entry["measured"] = r.measured;
      entry["bound"] = r.bound;
      entry["measure"] = r.measure;
      entry["passes"] = r.status == pass;
    }
    failed += r.status == fail;
    list.push_back(std::move(entry));
  }
  fmt::print("\n{}: {} checks, {} out of bounds\n", failed ? "FAIL" : "pass", results.size(),
             failed);
  if (!options.json.empty()) {
    FileWriter out(options.json);
    out.write(json::serialize(json::object{{"passes", failed == 0}, {"checks", std::move(list)}}));
    out.write("\n");
    out.commit();
  }
  return failed ? kFailed : kOk;
}

}  // namespace mxgpt::cli
