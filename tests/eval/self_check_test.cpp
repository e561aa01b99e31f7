// Correct models pass the self-checks, and each check finds the fault that it exists for.
#include "eval/self_check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <numeric>

#include "io/safetensors.h"
#include "runtime/model.h"
#include "support/nano.h"

namespace mxgpt::eval {
namespace {

using enum SelfCheckResult::Status;

/// Start of a text in the model's training distribution.
std::vector<int32_t> text(int64_t tokens = kMinSelfCheckTokens) {
  const auto file = io::SafetensorsFile::open(kNano / "reference-logits.safetensors");
  std::vector<int32_t> ids(tokens);
  const auto needed = tokens * sizeof(int32_t);
  for (int i = 0;; ++i) {
    const auto bytes = file.tensors().at(fmt::format("{}.ids", i)).bytes;
    if (bytes.size() < needed) continue;
    std::memcpy(ids.data(), bytes.data(), needed);
    return ids;
  }
}

/// A fault to inject into a runner.
struct Fault {
  std::function<bool(const backend::Batch&, const runtime::RunnerOptions&)> strikes =
      [](const backend::Batch&, const runtime::RunnerOptions&) { return false; };
  std::function<void(const backend::Attention&, const backend::Batch&)> on_attention = {};
};
Fault fault;

/// A gpt-oss runner that perturbs logits if the fault applies, and passes attention outputs to the
/// fault before any other hook.
class FaultyRunner : public runtime::Runner, backend::ActivationHook {
 public:
  FaultyRunner(const model::Config& config, const model::Weights& weights,
               runtime::RunnerOptions options)
      : options_(options) {
    if (fault.on_attention) options.activation_hook = this;
    runner_ = runtime::create_runner(nano().architecture(), config, weights, options);
  }
  std::span<const float> step(const backend::Batch& batch) override {
    const std::span<const float> logits = runner_->step(batch);
    logits_.assign(logits.begin(), logits.end());
    if (fault.strikes(batch, options_)) {
      for (size_t i = 7; i < logits_.size(); i += nano().config().vocabulary) logits_[i] += 30;
    }
    return logits_;
  }

 private:
  void attention(const backend::Attention& op, const backend::Batch& batch) override {
    fault.on_attention(op, batch);
    if (options_.activation_hook) options_.activation_hook->attention(op, batch);
  }

  runtime::RunnerOptions options_;
  std::unique_ptr<runtime::Runner> runner_;
  std::vector<float> logits_;
};

/// Names of the checks that find the injected fault.
std::vector<std::string> failures_with(Fault planted, int64_t tokens = kMinSelfCheckTokens) {
  fault = std::move(planted);
  const auto create_runner = [](const model::Architecture&, const model::Config& c,
                                const model::Weights& w, const runtime::RunnerOptions& options) {
    return std::unique_ptr<runtime::Runner>(std::make_unique<FaultyRunner>(c, w, options));
  };
  std::vector<std::string> failed;
  for (const SelfCheckResult& r : self_check({.architecture = nano().architecture(),
                                  .config = nano().config(),
                                  .weights = nano().weights(),
                                  .create_runner = create_runner},
                                             text(tokens))) {
    if (r.status == fail) failed.push_back(r.name);
  }
  return failed;
}

TEST(SelfCheck, PassesForTheShippedModel) {
  for (const SelfCheckResult& r : self_check(
           {nano().architecture(), nano().config(), nano().weights()}, text(kMaxSelfCheckTokens))) {
    EXPECT_EQ(r.status, pass) << r.name << ": " << r.measured << " " << r.measure;
    fmt::print("{:<50} {:.2e} of {:.2e} ({})\n", r.name, r.measured, r.bound, r.measure);
  }
}

TEST(SelfCheck, FindsPrefillThatDiffersFromDecode) {
  EXPECT_THAT(failures_with(
                  {.strikes =
                       [](const backend::Batch& batch, const runtime::RunnerOptions& options) {
                         return batch.rows() > 1 && options.precision == backend::Precision::exact;
                       }}),
              testing::Contains("prefill equals token by token, exact"));
}

TEST(SelfCheck, FindsRowsThatDependOnOtherSequences) {
  EXPECT_THAT(
      failures_with({.strikes =
                         [](const backend::Batch& batch, const runtime::RunnerOptions& options) {
                           return batch.sequences.front() != batch.sequences.back() &&
                                  options.precision == backend::Precision::mixed;
                         }}),
      testing::UnorderedElementsAre("batch equals alone, default"));
}

/// Only cache reuse gives a multi-token step that does not start at a step boundary.
TEST(SelfCheck, FindsAStaleCache) {
  EXPECT_THAT(failures_with({.strikes =
                                 [](const backend::Batch& batch, const runtime::RunnerOptions&) {
                                   return batch.positions[0] % 64 != 0 && batch.rows() > 1 &&
                                          batch.sequences.front() == batch.sequences.back() &&
                                          batch.tables[0].stride == 0;
                                 }}),
              testing::UnorderedElementsAre("cache reuse equals recompute, default",
                                            "cache reuse equals recompute, exact"));
}

TEST(SelfCheck, FindsDefaultPrecisionThatIsTooFarFromExact) {
  EXPECT_THAT(failures_with({.strikes =
                                 [](const backend::Batch&, const runtime::RunnerOptions& options) {
                                   return options.precision == backend::Precision::mixed;
                                 }}),
              testing::UnorderedElementsAre("default equals exact within bounds"));
}

TEST(SelfCheck, FindsAMaskThatIsOffByOne) {
  // At the window boundary: an output that lacks its oldest key.
  const auto forget = [](const backend::Attention& op, const backend::Batch& batch) {
    if (op.window == 0) return;
    for (int64_t row = op.window; row < batch.rows(); ++row) {
      for (int64_t i = 0; i < op.heads * op.head_dim; ++i)
        op.out[row * op.heads * op.head_dim + i] *= 0.999f;
    }
  };
  EXPECT_THAT(failures_with({.on_attention = forget}, 140),
              testing::UnorderedElementsAre("attention equals a dense mask in double, default",
                                            "attention equals a dense mask in double, exact"));
}

TEST(SelfCheck, FindsRotationsThatDependOnThePosition) {
  const auto stretch = [](const backend::Attention& op, const backend::Batch& batch) {
    if (batch.positions[0] == 0) return;
    auto* q = const_cast<float*>(op.q);
    for (int64_t i = 0; i < op.heads * op.head_dim; ++i) q[i] *= 1.5f;
  };
  EXPECT_THAT(failures_with({.on_attention = stretch}),
              testing::UnorderedElementsAre("RoPE is invariant to shifts"));
}

/// Experts that do not match the router's rows.
TEST(SelfCheck, FindsMisplacedExperts) {
  // A runner that ignores the permutation: it always uses the original down projection of layer 2.
  fault = {};
  const auto create_runner = [](const model::Architecture&, const model::Config& c,
                                const model::Weights& w, const runtime::RunnerOptions& options) {
    static std::vector<std::unique_ptr<model::Weights>> kept;
    kept.push_back(std::make_unique<model::Weights>(w));
    kept.back()->layers[2].down = nano().weights().layers[2].down;
    return runtime::create_runner(nano().architecture(), c, *kept.back(), options);
  };
  for (const SelfCheckResult& r : self_check({.architecture = nano().architecture(),
                                  .config = nano().config(),
                                  .weights = nano().weights(),
                                  .create_runner = create_runner},
                                             text())) {
    EXPECT_EQ(r.status, r.name == "permuted experts change nothing" ? fail : pass) << r.name;
  }
}

TEST(SelfCheck, NeedsSomeText) {
  const auto ids = text();
  EXPECT_ANY_THROW(self_check({nano().architecture(), nano().config(), nano().weights()},
                              std::span(ids).first(10)));
}

}  // namespace
}  // namespace mxgpt::eval
