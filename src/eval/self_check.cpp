#include "eval/self_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "backend/cpu/kv_page.h"
#include "base/error.h"
#include "engine/scoring_session.h"
#include "eval/reference_ops.h"
#include "eval/teacher_forcing.h"

namespace mxgpt::eval {
namespace {

using Tokens = std::span<const int32_t>;
/// Hashes of rows of logits; whole rows of a large vocabulary would take too much memory.
using Fingerprints = std::vector<size_t>;

size_t fingerprint_row(std::span<const float> logits) {
  if (!std::isfinite(log_sum_exp(logits)))
    throw Error("model", "the logits are not finite", "check the file with `mxgpt verify`");
  const auto bytes = std::as_bytes(logits);
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

SelfCheckResult make_result(std::string measure, double measured, double bound) {
  using enum SelfCheckResult::Status;
  return {.measure = std::move(measure),
          .measured = measured,
          .bound = bound,
          .status = measured <= bound ? pass : fail};
}

SelfCheckResult not_applicable(std::string why) {
  return {.measure = std::move(why)};
}

constexpr int64_t kRows = 64;  // per step

constexpr const char* kNeedsCpu = "activations are only observable on the CPU";

const char* name_of(backend::Precision precision) {
  return precision == backend::Precision::exact ? "exact" : "default";
}

engine::ScoringOptions options_of(const SelfCheckModel& s, backend::Precision precision,
                                  int64_t context) {
  return {
      .device = s.device,
      .precision = precision,
      .accum_type = precision == backend::Precision::mixed ? s.accumulate : kernels::AccumType::f32,
      .kv_format = precision == backend::Precision::mixed ? s.kv : std::nullopt,
      .context = context,
      .max_batched_tokens = kRows,
      .all_logits = true};
}

engine::ScoringSession make_session(const SelfCheckModel& s, backend::Precision precision,
                                    int64_t context) {
  const engine::ScoringOptions options = options_of(s, precision, context);
  return {s.config, options,
          s.create_runner(s.architecture, s.config, s.weights,
                          engine::ScoringSession::runner_options(s.config, options))};
}

/// Fingerprints of the logits of all `tokens`, processed `rows` at a time.
Fingerprints fingerprint_tokens(engine::ScoringSession& session, Tokens tokens, int64_t rows) {
  Fingerprints fingerprints;
  while (!tokens.empty()) {
    const Tokens step = tokens.first(std::min<size_t>(rows, tokens.size()));
    session.feed(step, [&](int64_t, std::span<const float> logits) {
      fingerprints.push_back(fingerprint_row(logits));
    });
    tokens = tokens.subspan(step.size());
  }
  return fingerprints;
}

Fingerprints fingerprint_tokens(const SelfCheckModel& s, backend::Precision precision,
                                Tokens tokens) {
  engine::ScoringSession session = make_session(s, precision, std::ssize(tokens));
  return fingerprint_tokens(session, tokens, kRows);
}

SelfCheckResult compare_bits(const Fingerprints& a, const Fingerprints& b) {
  int64_t mismatches = std::abs(std::ssize(a) - std::ssize(b));
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) mismatches += a[i] != b[i];
  return make_result(fmt::format("of {} positions differ", a.size()),
                     static_cast<double>(mismatches), 0);
}

SelfCheckResult check_prefill_equals_decode(const SelfCheckModel& s, backend::Precision precision,
                                            Tokens text) {
  engine::ScoringSession one_by_one = make_session(s, precision, std::ssize(text));
  return compare_bits(fingerprint_tokens(s, precision, text),
                      fingerprint_tokens(one_by_one, text, 1));
}

/// Runs several sequences in one batch, each with its own pages; pages are never released.
class MultiSequenceRunner {
 public:
  MultiSequenceRunner(const SelfCheckModel& s, const runtime::RunnerOptions& step,
                      int64_t sequences, int64_t context)
      : vocabulary_(s.config.vocabulary),
        stride_((context + backend::kPageTokens - 1) / backend::kPageTokens) {
    // Interleaved, so that consecutive pages of a sequence are not adjacent in memory.
    for (int64_t q = 0; q < sequences; ++q) {
      for (int64_t page = 0; page < stride_; ++page)
        pages_.push_back(static_cast<int32_t>((stride_ - 1 - page) * sequences + q));
    }
    runtime::RunnerOptions options = step;
    options.max_sequences = sequences;
    for (int64_t& pages : options.kv_pages) pages = sequences * stride_;
    runner_ = s.create_runner(s.architecture, s.config, s.weights, options);
  }

  struct SequenceSlice {
    int32_t sequence;
    int64_t start;  ///< position of the first token
    Tokens tokens;
  };

  /// Runs one step. Appends the fingerprints of all rows to `fingerprints`, if given.
  void step(const std::vector<SequenceSlice>& slices, Fingerprints* fingerprints = nullptr) {
    std::vector<int32_t> tokens, positions, sequences, logit_rows;
    for (const SequenceSlice& slice : slices) {
      for (size_t i = 0; i < slice.tokens.size(); ++i) {
        if (fingerprints) logit_rows.push_back(static_cast<int32_t>(tokens.size()));
        tokens.push_back(slice.tokens[i]);
        positions.push_back(static_cast<int32_t>(slice.start + static_cast<int64_t>(i)));
        sequences.push_back(slice.sequence);
      }
    }
    backend::Batch batch{
        .tokens = tokens, .positions = positions, .sequences = sequences, .logit_rows = logit_rows};
    for (backend::PageTable& table : batch.tables) table = {pages_.data(), stride_};
    const std::span<const float> logits = runner_->step(batch);
    for (size_t i = 0; i < logit_rows.size(); ++i)
      fingerprints->push_back(fingerprint_row(logits.subspan(i * vocabulary_, vocabulary_)));
  }

 private:
  int64_t vocabulary_, stride_;
  std::vector<int32_t> pages_;  // [sequences][stride]
  std::unique_ptr<runtime::Runner> runner_;
};

runtime::RunnerOptions runner_options(const SelfCheckModel& s, backend::Precision precision,
                                      int64_t rows, int64_t logit_rows,
                                      backend::ActivationHook* observer = nullptr) {
  return {
      .device = s.device,
      .precision = precision,
      .accum_type = precision == backend::Precision::mixed ? s.accumulate : kernels::AccumType::f32,
      .kv_format = precision == backend::Precision::mixed ? s.kv : std::nullopt,
      .max_batched_tokens = rows,
      .max_logit_rows = logit_rows,
      .activation_hook = observer};
}

/// Three different sequences in chunks of different sizes, in steps that mix prefill and decode.
SelfCheckResult check_batch_invariance(const SelfCheckModel& s, backend::Precision precision,
                                       Tokens text) {
  const auto n = static_cast<int64_t>(text.size());
  const Tokens sequences[] = {text, text.subspan(n / 4), text.subspan(n / 2)};
  constexpr int64_t kChunkSizes[] = {33, 1, 7}, kMaxStepTokens = 33 + 1 + 7;
  MultiSequenceRunner runner(s, runner_options(s, precision, kMaxStepTokens, kMaxStepTokens), 3, n);
  Fingerprints batched[3];
  int64_t at[3] = {};
  for (int64_t round = 0;; ++round) {
    std::vector<MultiSequenceRunner::SequenceSlice> step;
    for (int32_t q = 0; q < 3; ++q) {
      const int64_t count =
          std::min<int64_t>(std::ssize(sequences[q]) - at[q], kChunkSizes[(round + q) % 3]);
      if (count > 0) step.push_back({q, at[q], sequences[q].subspan(at[q], count)});
      at[q] += count;
    }
    if (step.empty()) break;
    Fingerprints fingerprints;
    runner.step(step, &fingerprints);
    auto fingerprint = fingerprints.begin();
    for (const MultiSequenceRunner::SequenceSlice& slice : step) {
      batched[slice.sequence].insert(batched[slice.sequence].end(), fingerprint,
                                     fingerprint + std::ssize(slice.tokens));
      fingerprint += std::ssize(slice.tokens);
    }
  }
  Fingerprints alone, together;
  for (int q = 0; q < 3; ++q) {
    const Fingerprints fingerprints = fingerprint_tokens(s, precision, sequences[q]);
    alone.insert(alone.end(), fingerprints.begin(), fingerprints.end());
    together.insert(together.end(), batched[q].begin(), batched[q].end());
  }
  return compare_bits(alone, together);
}

/// Computes `text` after a sequence that differs in its last `replaced` tokens.
SelfCheckResult check_reuse(int64_t replaced, const SelfCheckModel& s, backend::Precision precision,
                            Tokens text) {
  std::vector<int32_t> other(text.begin(), text.end());
  for (auto token = other.end() - replaced; token != other.end(); ++token)
    *token = *token ? *token - 1 : 1;
  engine::ScoringSession session = make_session(s, precision, std::ssize(text));
  session.feed(other);
  const int64_t reused = session.rewind_to_common_prefix(text);
  if (reused == 0) return not_applicable("the window has moved past the reusable prefix");
  const Fingerprints continued = fingerprint_tokens(session, text.subspan(reused), kRows);
  Fingerprints whole = fingerprint_tokens(s, precision, text);
  whole.erase(whole.begin(), whole.begin() + reused);
  return compare_bits(whole, continued);
}

/// Replaces the end of the text, whose window has released pages. If too little can be reused,
/// replaces half of a window's worth of text.
SelfCheckResult check_cache_reuse(const SelfCheckModel& s, backend::Precision precision,
                                  Tokens text) {
  const SelfCheckResult end = check_reuse(4, s, precision, text);
  if (end.status != SelfCheckResult::Status::not_applicable) return end;
  const Tokens window_text = text.first(std::min<size_t>(text.size(), s.config.window));
  return check_reuse((std::ssize(window_text) + 1) / 2, s, precision, window_text);
}

/// The bound is that of default precision (HACKING.md).
SelfCheckResult check_default_precision(const SelfCheckModel& s, Tokens text) {
  const auto n = static_cast<int64_t>(text.size());
  engine::ScoringSession exact = make_session(s, backend::Precision::exact, n),
                         standard = make_session(s, backend::Precision::mixed, n);
  double total = 0;
  const int64_t rows_per_step = runtime::device(s.device).is_host() ? kRows : 1;
  for (int64_t at = 0; at < n; at += rows_per_step) {
    const Tokens step = text.subspan(at, std::min(rows_per_step, n - at));
    std::vector<std::vector<float>> rows;
    exact.feed(step, [&](int64_t, std::span<const float> logits) {
      rows.emplace_back(logits.begin(), logits.end());
    });
    standard.feed(step, [&](int64_t position, std::span<const float> q) {
      const std::vector<float>& p = rows[position - at];
      const double p_total = log_sum_exp(p), q_total = log_sum_exp(q);
      for (size_t v = 0; v < p.size(); ++v)
        total += std::exp(p[v] - p_total) * ((p[v] - p_total) - (q[v] - q_total));
    });
  }
  return make_result("mean KL divergence, nats", total / static_cast<double>(n), 2e-3);
}

/// A copy of the weights with permuted experts and router rows.
class PermutedExperts {
 public:
  /// Permutes the first `layers` layers.
  PermutedExperts(const SelfCheckModel& s, int64_t layers) : weights(s.weights) {
    std::vector<int32_t> order(s.config.experts);
    std::iota(order.begin(), order.end(), 0);
    std::rotate(order.begin(), order.begin() + 1 + s.config.experts / 3, order.end());
    std::reverse(order.begin() + s.config.experts / 2, order.end());
    for (const model::TensorRef& ref : model::tensor_refs(s.architecture.tensors, s.config)) {
      const model::TensorSpec& spec = *ref.spec;
      backend::Tensor& tensor = ref.get(weights);
      if (!spec.per_layer() || ref.layer >= layers || !tensor) continue;
      if (spec.num_experts == model::Dim::experts)
        permute(tensor, tensor.rows * tensor.row_bytes(), order);
      else if (spec.rows == model::Dim::experts)
        permute(tensor, tensor.row_bytes(), order);
      else if (spec.k == model::Dim::experts)
        permute(tensor, sizeof(float), order);
    }
  }

  model::Weights weights;

 private:
  void permute(backend::Tensor& tensor, int64_t bytes_per_expert,
               const std::vector<int32_t>& order) {
    std::vector<std::byte>& bytes = bytes_.emplace_back(bytes_per_expert * order.size());
    for (size_t i = 0; i < order.size(); ++i)
      std::memcpy(&bytes[i * bytes_per_expert], tensor.data + order[i] * bytes_per_expert,
                  bytes_per_expert);
    tensor.data = bytes.data();
  }

  std::vector<std::vector<std::byte>> bytes_;
};

int64_t expert_bytes_of_layer(const SelfCheckModel& s, int64_t layer) {
  int64_t bytes = 0;
  for (const model::TensorRef& ref : model::tensor_refs(s.architecture.tensors, s.config)) {
    if (!ref.spec->per_layer() || ref.layer != layer ||
        ref.spec->num_experts != model::Dim::experts)
      continue;
    const backend::Tensor& tensor = ref.get(s.weights);
    if (tensor) bytes += tensor.num_experts * tensor.rows * tensor.row_bytes();
  }
  return bytes;
}

SelfCheckResult check_expert_permutation(const SelfCheckModel& s, Tokens text) {
  if (s.config.experts == 0) return not_applicable("the model has no experts");
  if (!runtime::device(s.device).is_host()) return not_applicable(kNeedsCpu);
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  int64_t layers = 1;
  for (int64_t bytes = 2 * expert_bytes_of_layer(s, 0); layers < s.config.layers; ++layers) {
    if (bytes > kMaxBytes) break;
    bytes += expert_bytes_of_layer(s, layers);
  }
  const PermutedExperts permuted(s, layers);
  SelfCheckResult result = compare_bits(fingerprint_tokens(s, backend::Precision::exact, text),
                                        fingerprint_tokens({.architecture = s.architecture,
                                                            .config = s.config,
                                                            .weights = permuted.weights,
                                                            .accumulate = s.accumulate,
                                                            .create_runner = s.create_runner},
                                                           backend::Precision::exact, text));
  result.measure += fmt::format(", {} of {} layers permuted", layers, s.config.layers);
  return result;
}

/// Keys or values of a sequence in the CPU's cache, [positions][kv_heads][head_dim].
std::vector<float> read_cache(bool keys, const backend::Attention& op,
                              const backend::PageTable& table, int32_t sequence,
                              int64_t positions) {
  const std::byte* pages = keys ? op.kv.keys : op.kv.values;
  const quant::FormatTraits& format = quant::traits(op.kv.format);
  const int64_t row_bytes = format.row_bytes(op.head_dim);
  std::vector<std::byte> row(row_bytes);
  std::vector<float> values(positions * op.kv_heads * op.head_dim);
  for (int64_t at = 0; at < positions; ++at) {
    for (int64_t h = 0; h < op.kv_heads; ++h) {
      const int64_t slot = at % backend::kPageTokens;
      const std::byte* page =
          pages + (table.page(sequence, at) * op.kv_heads + h) * backend::kPageTokens * row_bytes;
      if (keys)
        cpu::load_key(op.kv.format, op.head_dim, page, slot, row.data());
      else
        std::copy_n(page + slot * row_bytes, row_bytes, row.data());
      format.dequantize(row.data(), op.head_dim, &values[(at * op.kv_heads + h) * op.head_dim]);
    }
  }
  return values;
}

/// Compares each attention output of a step with dense masked attention in double, from the op's
/// own inputs.
class AttentionCheck : public backend::ActivationHook {
 public:
  void attention(const backend::Attention& op, const backend::Batch& batch) override {
    const int64_t rows = batch.rows(), d = op.head_dim, group = op.heads / op.kv_heads;
    const backend::PageTable& table = batch.tables[static_cast<int>(op.kv.group)];
    const std::vector<float> keys = read_cache(true, op, table, 0, rows);
    const std::vector<float> values = read_cache(false, op, table, 0, rows);
    double error = 0, power = 0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < op.heads; ++head) {
        const int64_t offset = (row * op.heads + head) * d;
        const std::vector<double> exact = reference::attention(
            {.q = op.q + offset,
             .keys = keys.data() + head / group * d,
             .values = values.data() + head / group * d,
             .stride = op.kv_heads * d,
             .head_dim = op.head_dim,
             .scale = op.scale,
             .first = op.window ? std::max<int64_t>(0, row - op.window + 1) : 0,
             .last = row,
             .sink = op.sinks ? op.sinks.f32() + head : nullptr});
        for (int64_t i = 0; i < d; ++i) {
          error += std::pow(op.out[offset + i] - exact[i], 2);
          power += exact[i] * exact[i];
        }
      }
    }
    const double relative = std::sqrt(error / power);
    if (!(relative <= max_error)) {
      max_error = relative;
      max_error_layer = layer_;
    }
    ++layer_;
  }

  double max_error = 0;
  int64_t max_error_layer = 0;

 private:
  int64_t layer_ = 0;
};

SelfCheckResult check_attention(const SelfCheckModel& s, backend::Precision precision,
                                Tokens text) {
  if (!runtime::device(s.device).is_host()) return not_applicable(kNeedsCpu);
  AttentionCheck check;
  const auto n = static_cast<int64_t>(text.size());
  MultiSequenceRunner(s, runner_options(s, precision, n, 1, &check), 1, n).step({{0, 0, text}});
  return make_result(fmt::format("relative RMS error, layer {}", check.max_error_layer),
                     check.max_error, 1e-5);
}

/// Scores q · k of the first layer, whose input is the embedding alone.
class FirstLayerScores : public backend::ActivationHook {
 public:
  void attention(const backend::Attention& op, const backend::Batch& batch) override {
    if (!scores.empty()) return;
    const int64_t rows = batch.rows(), begin = batch.positions[0], d = op.head_dim;
    const backend::PageTable& table = batch.tables[static_cast<int>(op.kv.group)];
    const std::vector<float> keys = read_cache(true, op, table, 0, begin + rows);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t at = 0; at <= row; ++at) {
        for (int64_t h = 0; h < op.heads; ++h) {
          const float* q = op.q + (row * op.heads + h) * d;
          const float* k = &keys[((begin + at) * op.kv_heads + h / (op.heads / op.kv_heads)) * d];
          scores.push_back(std::inner_product(q, q + d, k, 0.0));
        }
      }
    }
  }

  std::vector<double> scores;
};

/// With RoPE, scores depend on relative positions only. Angles are rounded to f32: by at most 2^-17
/// at positions up to 2^8.
SelfCheckResult check_rope_shift(const SelfCheckModel& s, Tokens text) {
  if (!runtime::device(s.device).is_host()) return not_applicable(kNeedsCpu);
  if (s.weights.position_embedding) return not_applicable("positions are learned");
  const int64_t shift = 3 * backend::kPageTokens;
  const Tokens prefix = text.first(std::min<size_t>(text.size(), 2 * backend::kPageTokens));
  const auto n = static_cast<int64_t>(prefix.size());
  if (n + shift > s.config.context) return not_applicable("the context is too short");
  FirstLayerScores at_start, shifted;
  const auto options = [&](backend::ActivationHook& observer) {
    return runner_options(s, backend::Precision::exact, n, 1, &observer);
  };
  MultiSequenceRunner(s, options(at_start), 1, n).step({{0, 0, prefix}});
  MultiSequenceRunner(s, options(shifted), 1, n + shift).step({{0, shift, prefix}});
  double error = 0, power = 0;
  for (size_t i = 0; i < at_start.scores.size(); ++i) {
    error += std::pow(at_start.scores[i] - shifted.scores[i], 2);
    power += at_start.scores[i] * at_start.scores[i];
  }
  return make_result("relative RMS change of scores q · k", std::sqrt(error / power), 1e-4);
}

}  // namespace

std::vector<SelfCheckResult> self_check(const SelfCheckModel& s, Tokens text) {
  text = text.first(
      std::min<size_t>(text.size(), std::min<int64_t>(kMaxSelfCheckTokens, s.config.context)));
  if (static_cast<int64_t>(text.size()) < kMinSelfCheckTokens) {
    throw Error("text", fmt::format("has {} tokens; self-checks need {}", text.size(),
                                    kMinSelfCheckTokens));
  }
  std::vector<SelfCheckResult> results;
  const auto add = [&](std::string name, SelfCheckResult result) {
    result.name = std::move(name);
    results.push_back(std::move(result));
  };
  for (const backend::Precision precision :
       {backend::Precision::exact, backend::Precision::mixed}) {
    const auto add_check = [&](const char* name, auto check) {
      add(fmt::format("{}, {}", name, name_of(precision)), check(s, precision, text));
    };
    // Devices may use different kernels for single-token steps, so results are close but not
    // identical.
    if (!runtime::device(s.device).is_host() && precision == backend::Precision::mixed) continue;
    add_check("prefill equals token by token", check_prefill_equals_decode);
    add_check("batch equals alone", check_batch_invariance);
    add_check("cache reuse equals recompute", check_cache_reuse);
    add_check("attention equals a dense mask in double", check_attention);
  }
  add("default equals exact within bounds", check_default_precision(s, text));
  add("permuted experts change nothing", check_expert_permutation(s, text));
  add("RoPE is invariant to shifts", check_rope_shift(s, text));
  return results;
}

}  // namespace mxgpt::eval
