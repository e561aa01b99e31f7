// `mxgpt logits`: writes teacher-forced log-probabilities for given token ids, to compare
// implementations.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/text_source.h"
#include "engine/scoring_session.h"
#include "io/safetensors.h"

namespace mxgpt::cli {

namespace {

constexpr int64_t kTopTokens = 8;

/// Appends the kTopTokens largest log-probabilities of one position, best first.
void append_top(std::span<const float> logits, std::vector<int32_t>& ids,
                std::vector<float>& logprobs) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto count = std::min<int64_t>(kTopTokens, static_cast<int64_t>(logits.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  double sum_exp = 0;
  for (const float logit : logits)
    sum_exp += std::exp(static_cast<double>(logit - logits[order[0]]));
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(order[i]);
    logprobs.push_back(static_cast<float>(logits[order[i]] - logits[order[0]] - std::log(sum_exp)));
  }
}

struct Options {
  ModelOption model;
  DeviceOption device;
  std::string ids, out;
  backend::Precision precision = backend::Precision::mixed;
  std::optional<quant::Format> kv;
  kernels::AccumType accumulate = kernels::AccumType::f32;
  bool full = false;
};

int run_logits(const Options& options) {
  const auto sequences = read_ids(options.ids);
  const auto model = options.model.open();
  const int64_t vocabulary = model->config().vocabulary, top = std::min(kTopTokens, vocabulary);

  io::SafetensorsWriter out(options.out);
  int64_t longest = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto length = static_cast<int64_t>(sequences[i].size());
    longest = std::max(longest, length);
    const auto declare = [&](const char* field, const char* type, std::vector<int64_t> shape) {
      out.add_tensor(fmt::format("{}.{}", i, field), type, shape);
    };
    declare("ids", "I32", {length});
    if (options.full) declare("logits", "F32", {length, vocabulary});
    declare("last_logits", "F32", {vocabulary});
    declare("top_ids", "I32", {length, top});
    declare("top_logprobs", "F32", {length, top});
  }
  engine::ScoringSession session(*model, {.device = options.device.device,
                                          .vram_budget = options.device.vram_budget,
                                          .precision = options.precision,
                                          .accum_type = options.accumulate,
                                          .kv_format = options.kv,
                                          .context = longest,
                                          .all_logits = true});
  for (const auto& sequence : sequences) {
    session.reset();
    out.write(std::as_bytes(std::span(sequence)));
    std::vector<int32_t> top_ids;
    std::vector<float> top_logprobs, last;
    session.feed(sequence, [&](int64_t position, std::span<const float> logits) {
      if (!std::all_of(logits.begin(), logits.end(), [](float l) { return std::isfinite(l); })) {
        throw Error(options.model.location().string(),
                    fmt::format("the logits at position {} are not finite", position),
                    "check the file with `mxgpt verify`");
      }
      if (options.full) out.write(std::as_bytes(logits));
      append_top(logits, top_ids, top_logprobs);
      if (position + 1 == static_cast<int64_t>(sequence.size()))
        last.assign(logits.begin(), logits.end());
    });
    out.write(std::as_bytes(std::span(last)));
    out.write(std::as_bytes(std::span(top_ids)));
    out.write(std::as_bytes(std::span(top_logprobs)));
  }
  out.finish();
  return kOk;
}

}  // namespace

std::function<int()> logits(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  options->model.declare(command);
  command.text("--ids", options->ids, "JSON file: an array of arrays of token ids")
      .required()
      .metavar("FILE");
  command
      .text("--out", options->out,
            "safetensors file to write: per sequence i, i.ids, i.top_ids and i.top_logprobs "
            "[tokens, 8], i.last_logits [vocabulary]")
      .required()
      .metavar("FILE");
  command.flag("--full", options->full, "Also write i.logits [tokens, vocabulary]");
  options->device.declare(command);
  declare_precision(command, options->precision);
  declare_kv(command, options->kv);
  declare_accumulate(command, options->accumulate);
  return [options] { return run_logits(*options); };
}

}  // namespace mxgpt::cli
