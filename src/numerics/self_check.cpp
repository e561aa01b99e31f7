#include "numerics/self_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "backend/cpu/kv_page.h"
#include "base/error.h"
#include "engine/session.h"
#include "numerics/reference_ops.h"
#include "numerics/score.h"

namespace mxgpt {
namespace {

using Tokens = std::span<const int32_t>;
/// Hashes of rows of logits: whole ones of a real vocabulary would fill the memory.
using Prints = std::vector<size_t>;

size_t print_of(std::span<const float> logits) {
  if (!std::isfinite(log_sum_exp(logits)))
    throw Error("model", "its logits are not finite", "check the file with `mxgpt verify`");
  const auto bytes = std::as_bytes(logits);
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

SelfCheckResult judged(std::string measure, double measured, double bound) {
  using enum SelfCheckResult::Verdict;
  return {.measure = std::move(measure),
          .measured = measured,
          .bound = bound,
          .verdict = measured <= bound ? holds : fails};
}

SelfCheckResult does_not_apply(std::string why) {
  return {.measure = std::move(why)};
}

constexpr int64_t kRows = 64;  // a step

constexpr const char* kNeedsHost = "it looks into memory that a GPU keeps to itself";

const char* name_of(Precision precision) {
  return precision == Precision::exact ? "exact" : "default";
}

SessionOptions options_of(const SelfCheckSubject& s, Precision precision, int64_t context) {
  return {.device = s.device,
          .precision = precision,
          .accumulate = precision == Precision::standard ? s.accumulate : Accumulate::f32,
          .kv = precision == Precision::standard ? s.kv : std::nullopt,
          .context = context,
          .max_rows = kRows,
          .all_logits = true};
}

/// Of all `tokens`, fed `rows` at a time.
Prints prints_of(Session& session, Tokens tokens, int64_t rows) {
  Prints prints;
  while (!tokens.empty()) {
    const Tokens step = tokens.first(std::min<size_t>(rows, tokens.size()));
    session.feed(
        step, [&](int64_t, std::span<const float> logits) { prints.push_back(print_of(logits)); });
    tokens = tokens.subspan(step.size());
  }
  return prints;
}

Prints prints_of(const SelfCheckSubject& s, Precision precision, Tokens tokens) {
  Session session(s.architecture, s.config, s.weights,
                  options_of(s, precision, static_cast<int64_t>(tokens.size())));
  return prints_of(session, tokens, kRows);
}

SelfCheckResult same_bits(const Prints& a, const Prints& b) {
  int64_t other = std::abs(std::ssize(a) - std::ssize(b));
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) other += a[i] != b[i];
  return judged(fmt::format("positions of {} with other bits", a.size()),
                static_cast<double>(other), 0);
}

SelfCheckResult prefill_equals_token_by_token(const SelfCheckSubject& s, Precision precision,
                                              Tokens text) {
  Session one_by_one(s.architecture, s.config, s.weights,
                     options_of(s, precision, static_cast<int64_t>(text.size())));
  return same_bits(prints_of(s, precision, text), prints_of(one_by_one, text, 1));
}

/// The sequences of a batch, each with its own pages; no page is given back.
class SharedRunner {
 public:
  SharedRunner(const SelfCheckSubject& s, const RunnerOptions& step, int64_t sequences,
               int64_t context)
      : vocabulary_(s.config.vocabulary), stride_((context + kPageTokens - 1) / kPageTokens) {
    // Crosswise: neighbouring pages of a sequence are not neighbours in memory.
    for (int64_t q = 0; q < sequences; ++q) {
      for (int64_t page = 0; page < stride_; ++page)
        pages_.push_back(static_cast<int32_t>((stride_ - 1 - page) * sequences + q));
    }
    RunnerOptions options = step;
    options.max_sequences = sequences;
    for (int64_t& pages : options.pages) pages = sequences * stride_;
    runner_ = s.architecture.runner(s.config, s.weights, options);
  }

  struct Part {
    int32_t sequence;
    int64_t begin;  ///< position of the first token
    Tokens tokens;
  };

  /// One step. With `prints`, those of all rows are appended.
  void step(const std::vector<Part>& parts, Prints* prints = nullptr) {
    std::vector<int32_t> tokens, positions, sequences, wanted;
    for (const Part& part : parts) {
      for (size_t i = 0; i < part.tokens.size(); ++i) {
        if (prints) wanted.push_back(static_cast<int32_t>(tokens.size()));
        tokens.push_back(part.tokens[i]);
        positions.push_back(static_cast<int32_t>(part.begin + static_cast<int64_t>(i)));
        sequences.push_back(part.sequence);
      }
    }
    Batch batch{
        .tokens = tokens, .positions = positions, .sequences = sequences, .logit_rows = wanted};
    for (PageTable& table : batch.tables) table = {pages_.data(), stride_};
    const std::span<const float> logits = runner_->step(batch);
    for (size_t i = 0; i < wanted.size(); ++i)
      prints->push_back(print_of(logits.subspan(i * vocabulary_, vocabulary_)));
  }

 private:
  int64_t vocabulary_, stride_;
  std::vector<int32_t> pages_;  // [sequences][stride]
  std::unique_ptr<Runner> runner_;
};

RunnerOptions runner_options(const SelfCheckSubject& s, Precision precision, int64_t rows,
                             int64_t logit_rows, Observer* observer = nullptr) {
  return {.device = s.device,
          .precision = precision,
          .accumulate = precision == Precision::standard ? s.accumulate : Accumulate::f32,
          .kv = precision == Precision::standard ? s.kv : std::nullopt,
          .max_rows = rows,
          .max_logit_rows = logit_rows,
          .observer = observer};
}

/// Three sequences of different text, cut differently, in steps that mix prefill and decode.
SelfCheckResult batch_equals_alone(const SelfCheckSubject& s, Precision precision, Tokens text) {
  const auto n = static_cast<int64_t>(text.size());
  const Tokens sequences[] = {text, text.subspan(n / 4), text.subspan(n / 2)};
  constexpr int64_t kCuts[] = {33, 1, 7}, kMost = 33 + 1 + 7;
  SharedRunner runner(s, runner_options(s, precision, kMost, kMost), 3, n);
  Prints parts[3];
  int64_t at[3] = {};
  for (int64_t round = 0;; ++round) {
    std::vector<SharedRunner::Part> step;
    for (int32_t q = 0; q < 3; ++q) {
      const int64_t count =
          std::min<int64_t>(std::ssize(sequences[q]) - at[q], kCuts[(round + q) % 3]);
      if (count > 0) step.push_back({q, at[q], sequences[q].subspan(at[q], count)});
      at[q] += count;
    }
    if (step.empty()) break;
    Prints prints;
    runner.step(step, &prints);
    auto print = prints.begin();
    for (const SharedRunner::Part& part : step) {
      parts[part.sequence].insert(parts[part.sequence].end(), print,
                                  print + std::ssize(part.tokens));
      print += std::ssize(part.tokens);
    }
  }
  Prints alone, together;
  for (int q = 0; q < 3; ++q) {
    const Prints prints = prints_of(s, precision, sequences[q]);
    alone.insert(alone.end(), prints.begin(), prints.end());
    together.insert(together.end(), parts[q].begin(), parts[q].end());
  }
  return same_bits(alone, together);
}

/// The text after another one that shares all but its last `replaced` tokens.
SelfCheckResult reuse_of_all_but(int64_t replaced, const SelfCheckSubject& s, Precision precision,
                                 Tokens text) {
  std::vector<int32_t> other(text.begin(), text.end());
  for (auto token = other.end() - replaced; token != other.end(); ++token)
    *token = *token ? *token - 1 : 1;
  Session session(s.architecture, s.config, s.weights, options_of(s, precision, std::ssize(text)));
  session.feed(other);
  const int64_t reused = session.rewind_to_common_prefix(text);
  if (reused == 0) return does_not_apply("the window has moved on");
  const Prints continued = prints_of(session, text.subspan(reused), kRows);
  Prints whole = prints_of(s, precision, text);
  whole.erase(whole.begin(), whole.begin() + reused);
  return same_bits(whole, continued);
}

/// The end of a text, for which pages behind the window were given back; or, where that leaves too
/// little, half of what a window holds.
SelfCheckResult reuse_equals_recompute(const SelfCheckSubject& s, Precision precision,
                                       Tokens text) {
  const SelfCheckResult end = reuse_of_all_but(4, s, precision, text);
  if (end.verdict != SelfCheckResult::Verdict::does_not_apply) return end;
  const Tokens held = text.first(std::min<size_t>(text.size(), s.config.window));
  return reuse_of_all_but((std::ssize(held) + 1) / 2, s, precision, held);
}

/// The bound is that of the default path (HACKING.md).
SelfCheckResult default_equals_exact(const SelfCheckSubject& s, Tokens text) {
  const auto n = static_cast<int64_t>(text.size());
  const auto session = [&](Precision precision) {
    return Session(s.architecture, s.config, s.weights, options_of(s, precision, n));
  };
  Session exact = session(Precision::exact), standard = session(Precision::standard);
  double total = 0;
  const int64_t rows_a_step = s.device == Device::cpu ? kRows : 1;
  for (int64_t at = 0; at < n; at += rows_a_step) {
    const Tokens step = text.subspan(at, std::min(rows_a_step, n - at));
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
  return judged("mean KL divergence, nats", total / static_cast<double>(n), 2e-3);
}

/// A copy of weights whose experts stand in another order, the router's rows with them.
class PermutedExperts {
 public:
  /// `layers` of them from the first.
  PermutedExperts(const SelfCheckSubject& s, int64_t layers) : weights(s.weights) {
    std::vector<int32_t> order(s.config.experts);
    std::iota(order.begin(), order.end(), 0);
    std::rotate(order.begin(), order.begin() + 1 + s.config.experts / 3, order.end());
    std::reverse(order.begin() + s.config.experts / 2, order.end());
    for (const TensorSpec& spec : s.architecture.tensors) {
      if (!spec.per_layer()) continue;
      for (int64_t layer = 0; layer < layers; ++layer) {
        Tensor& tensor = spec.in(weights, layer);
        if (!tensor) continue;
        if (spec.slices == Dim::experts)
          permute(tensor, tensor.rows * tensor.row_bytes(), order);
        else if (spec.rows == Dim::experts)
          permute(tensor, tensor.row_bytes(), order);
        else if (spec.k == Dim::experts)
          permute(tensor, sizeof(float), order);
      }
    }
  }

  Weights weights;

 private:
  void permute(Tensor& tensor, int64_t part_bytes, const std::vector<int32_t>& order) {
    std::vector<std::byte>& bytes = bytes_.emplace_back(part_bytes * order.size());
    for (size_t i = 0; i < order.size(); ++i)
      std::memcpy(&bytes[i * part_bytes], tensor.data + order[i] * part_bytes, part_bytes);
    tensor.data = bytes.data();
  }

  std::vector<std::vector<std::byte>> bytes_;
};

int64_t expert_bytes_of_layer(const SelfCheckSubject& s, int64_t layer) {
  int64_t bytes = 0;
  Weights weights = s.weights;
  for (const TensorSpec& spec : s.architecture.tensors) {
    if (!spec.per_layer() || spec.slices != Dim::experts) continue;
    const Tensor& tensor = spec.in(weights, layer);
    if (tensor) bytes += tensor.slices * tensor.rows * tensor.row_bytes();
  }
  return bytes;
}

SelfCheckResult permuted_experts(const SelfCheckSubject& s, Tokens text) {
  if (s.config.experts == 0) return does_not_apply("the model has no experts");
  if (s.device != Device::cpu) return does_not_apply(kNeedsHost);
  constexpr int64_t kMostBytes = int64_t{1} << 30;
  int64_t layers = 1;
  for (int64_t bytes = 2 * expert_bytes_of_layer(s, 0); layers < s.config.layers; ++layers) {
    if (bytes > kMostBytes) break;
    bytes += expert_bytes_of_layer(s, layers);
  }
  const PermutedExperts permuted(s, layers);
  SelfCheckResult result =
      same_bits(prints_of(s, Precision::exact, text),
                prints_of({s.architecture, s.config, permuted.weights, s.accumulate},
                          Precision::exact, text));
  result.measure += fmt::format(", {} of {} layers permuted", layers, s.config.layers);
  return result;
}

/// Keys, or values, of one sequence as the CPU's cache holds them, [positions][kv_heads][head_dim].
std::vector<float> cached(bool keys, const Attend& op, const PageTable& table, int32_t sequence,
                          int64_t positions) {
  const std::byte* pages = keys ? op.kv.keys : op.kv.values;
  const FormatTraits& format = traits(op.kv.format);
  const int64_t row_bytes = format.row_bytes(op.head_dim);
  std::vector<std::byte> row(row_bytes);
  std::vector<float> values(positions * op.kv_heads * op.head_dim);
  for (int64_t at = 0; at < positions; ++at) {
    for (int64_t h = 0; h < op.kv_heads; ++h) {
      const int64_t slot = at % kPageTokens;
      const std::byte* page =
          pages + (table.page(sequence, at) * op.kv_heads + h) * kPageTokens * row_bytes;
      if (keys)
        cpu::take_key(op.kv.format, op.head_dim, page, slot, row.data());
      else
        std::copy_n(page + slot * row_bytes, row_bytes, row.data());
      format.dequantize(row.data(), op.head_dim, &values[(at * op.kv_heads + h) * op.head_dim]);
    }
  }
  return values;
}

/// Every attention of a step against a dense mask in double, from the op's own inputs.
class AttentionCheck : public Observer {
 public:
  void attended(const Attend& op, const Batch& batch) override {
    const int64_t rows = batch.rows(), d = op.head_dim, group = op.heads / op.kv_heads;
    const PageTable& table = batch.tables[static_cast<int>(op.kv.group)];
    const std::vector<float> keys = cached(true, op, table, 0, rows);
    const std::vector<float> values = cached(false, op, table, 0, rows);
    double error = 0, power = 0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < op.heads; ++head) {
        const int64_t place = (row * op.heads + head) * d;
        const std::vector<double> exact = reference::attention(
            {.q = op.q + place,
             .keys = keys.data() + head / group * d,
             .values = values.data() + head / group * d,
             .stride = op.kv_heads * d,
             .head_dim = op.head_dim,
             .scale = op.scale,
             .first = op.window ? std::max<int64_t>(0, row - op.window + 1) : 0,
             .last = row,
             .sink = op.sinks ? op.sinks.f32() + head : nullptr});
        for (int64_t i = 0; i < d; ++i) {
          error += std::pow(op.out[place + i] - exact[i], 2);
          power += exact[i] * exact[i];
        }
      }
    }
    const double relative = std::sqrt(error / power);
    if (!(relative <= worst)) {
      worst = relative;
      worst_layer = layer_;
    }
    ++layer_;
  }

  double worst = 0;
  int64_t worst_layer = 0;

 private:
  int64_t layer_ = 0;
};

SelfCheckResult attention_equals_dense(const SelfCheckSubject& s, Precision precision,
                                       Tokens text) {
  if (s.device != Device::cpu) return does_not_apply(kNeedsHost);
  AttentionCheck check;
  const auto n = static_cast<int64_t>(text.size());
  SharedRunner(s, runner_options(s, precision, n, 1, &check), 1, n).step({{0, 0, text}});
  return judged(fmt::format("relative RMS error, layer {}", check.worst_layer), check.worst, 1e-5);
}

/// Scores q · k of the first layer, whose input is the embedding alone.
class FirstScores : public Observer {
 public:
  void attended(const Attend& op, const Batch& batch) override {
    if (!scores.empty()) return;
    const int64_t rows = batch.rows(), begin = batch.positions[0], d = op.head_dim;
    const PageTable& table = batch.tables[static_cast<int>(op.kv.group)];
    const std::vector<float> keys = cached(true, op, table, 0, begin + rows);
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

/// RoPE makes scores depend on distances alone. Angles are rounded to f32: at positions up to 2^8,
/// by 2^-17 at most.
SelfCheckResult shift_invariance(const SelfCheckSubject& s, Tokens text) {
  if (s.device != Device::cpu) return does_not_apply(kNeedsHost);
  if (s.weights.positions) return does_not_apply("positions are learned");
  const int64_t shift = 3 * kPageTokens;
  const Tokens few = text.first(std::min<size_t>(text.size(), 2 * kPageTokens));
  const auto n = static_cast<int64_t>(few.size());
  if (n + shift > s.config.context) return does_not_apply("the context is too short");
  FirstScores here, there;
  const auto options = [&](Observer& observer) {
    return runner_options(s, Precision::exact, n, 1, &observer);
  };
  SharedRunner(s, options(here), 1, n).step({{0, 0, few}});
  SharedRunner(s, options(there), 1, n + shift).step({{0, shift, few}});
  double error = 0, power = 0;
  for (size_t i = 0; i < here.scores.size(); ++i) {
    error += std::pow(here.scores[i] - there.scores[i], 2);
    power += here.scores[i] * here.scores[i];
  }
  return judged("relative RMS change of scores q · k", std::sqrt(error / power), 1e-4);
}

}  // namespace

std::vector<SelfCheckResult> self_check(const SelfCheckSubject& s, Tokens text) {
  text = text.first(
      std::min<size_t>(text.size(), std::min<int64_t>(kSelfCheckTokens, s.config.context)));
  if (static_cast<int64_t>(text.size()) < kFewestSelfCheckTokens) {
    throw Error("text", fmt::format("has {} tokens; self-checks need {}", text.size(),
                                    kFewestSelfCheckTokens));
  }
  std::vector<SelfCheckResult> results;
  const auto add = [&](std::string name, SelfCheckResult result) {
    result.name = std::move(name);
    results.push_back(std::move(result));
  };
  for (const Precision precision : {Precision::exact, Precision::standard}) {
    const auto both = [&](const char* name, auto check) {
      add(fmt::format("{}, {}", name, name_of(precision)), check(s, precision, text));
    };
    // A GPU has kernels of their own for steps of one row, close to the others and not the same.
    if (s.device != Device::cpu && precision == Precision::standard) continue;
    both("prefill equals token by token", prefill_equals_token_by_token);
    both("batch equals alone", batch_equals_alone);
    both("cache reuse equals recompute", reuse_equals_recompute);
    both("attention equals a dense mask in double", attention_equals_dense);
  }
  add("default equals exact within bounds", default_equals_exact(s, text));
  add("permuted experts change nothing", permuted_experts(s, text));
  add("RoPE is invariant to shifts", shift_invariance(s, text));
  return results;
}

}  // namespace mxgpt
