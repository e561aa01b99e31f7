// Too little of a GPU's memory: what is given up, in which order, and that no request is lost by
// it.
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "engine/fake_device.h"
#include "engine/fake_engine.h"
#include "engine/ladder.h"
#include "model/model.h"

namespace mxgpt {
namespace {

using What = Concession::What;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr EngineShape kOnDevice{.vocabulary = kShape.vocabulary,
                                .context = kShape.context,
                                .has_group = {true, true},
                                .window = kShape.window,
                                .q8_kv = true,
                                .expert_layers = FakeDevice::kLayers};
constexpr EngineOptions kLarge{
    .context = 512, .max_sequences = 8, .max_rows = 256, .kv_tokens = 4096, .device = Device::cuda};

int64_t needed(const EngineOptions& options) {
  return FakeDevice::plan(Engine::runner_options(kOnDevice, options)).total();
}

std::unique_ptr<Engine> engine_on(FakeDevice& device, const EngineOptions& options = kLarge) {
  return std::make_unique<Engine>(
      std::make_unique<FakeDeviceRunners>(device,
                                          [](const RunnerOptions& o) {
                                            return std::make_unique<FakeRunner>(
                                                o, kShape.vocabulary, kShape.window);
                                          }),
      kOnDevice, options);
}

/// What is logged while it lives.
class Log {
 public:
  Log() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  /// Once the engine is gone.
  int64_t lines_with(const std::string& part) const {
    int64_t count = 0;
    std::istringstream text(text_.str());
    for (std::string line; std::getline(text, line);) count += line.find(part) != line.npos;
    return count;
  }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

class Recovery : public testing::Test {
 protected:
  Log log;
};

/// All that can be given up, in turn.
std::vector<What> ladder(const EngineShape& shape, EngineOptions options) {
  std::vector<What> all;
  int64_t before = needed(options);
  while (const std::optional<Concession> c = concede(shape, options)) {
    EXPECT_NE(c->from, c->to);
    EXPECT_EQ(options.context, 512);
    EXPECT_LT(needed(options), before) << name(c->what);
    before = needed(options);
    all.push_back(c->what);
  }
  return all;
}

TEST(Ladder, GivesUpSpeedOfPromptsFirstAndHostMemoryLast) {
  EXPECT_THAT(ladder(kOnDevice, resolved(kOnDevice, kLarge)),
              ElementsAre(What::prompt_rows, What::prompt_rows, What::sequences, What::sequences,
                          What::sequences, What::kv_format, What::host_experts, What::host_experts,
                          What::host_experts, What::host_experts));
  EngineOptions resident = kLarge;
  resident.resident = true;
  EXPECT_THAT(ladder(kOnDevice, resolved(kOnDevice, resident)),
              ElementsAre(What::prompt_rows, What::prompt_rows, What::sequences, What::sequences,
                          What::sequences, What::kv_format));
  // Exact precision has a cache of f32, or is none; and what the model cannot, is left out.
  EngineOptions least{.context = 512, .max_sequences = 1, .max_rows = 64, .kv_tokens = 1};
  least.precision = Precision::exact;
  EXPECT_THAT(ladder(kShape, resolved(kShape, least)), IsEmpty());
}

TEST(Ladder, EndsInTheSmallest) {
  EngineOptions options = resolved(kOnDevice, kLarge);
  while (concede(kOnDevice, options)) {
  }
  EXPECT_EQ(options.max_rows, kLeastRows);
  EXPECT_EQ(options.max_sequences, 1);
  EXPECT_EQ(options.kv_tokens, options.context);
  EXPECT_EQ(options.kv, Format::q8_0);
  EXPECT_EQ(options.host_expert_layers, FakeDevice::kLayers);
}

Request a_request(int64_t prompt, int64_t answer, uint64_t seed) {
  return {.prompt = text(prompt, seed), .max_tokens = answer, .sampling = {.seed = seed}};
}

TEST_F(Recovery, WhenLoadingTheLargestThatFitsIsTaken) {
  EngineOptions rung = resolved(kOnDevice, kLarge);
  for (size_t conceded = 0;; ++conceded) {
    // Just enough for this rung; one byte less is for the next.
    FakeDevice device(needed(rung));
    {
      const auto engine = engine_on(device);
      const EngineStatus status = engine->status();
      EXPECT_EQ(status.memory.conceded.size(), conceded);
      EXPECT_EQ(status.memory.shortages, static_cast<int64_t>(conceded));
      EXPECT_EQ(status.memory.planned.total(), device.total);
      EXPECT_EQ(status.max_rows, rung.max_rows);
      EXPECT_EQ(status.max_sequences, rung.max_sequences);
      for (const Concession& c : status.memory.conceded) {
        EXPECT_FALSE(c.in_step);
        EXPECT_GT(c.needed, c.available);
        EXPECT_EQ(c.available, device.total);
      }
      const Request asked = a_request(100, 20, conceded);
      TokenStream stream = submit(*engine, a_request(100, 20, conceded));
      EXPECT_EQ(hear(stream).tokens[0], expected(asked));
    }
    if (!concede(kOnDevice, rung)) break;
  }
}

TEST_F(Recovery, WhenLoadingTooLittleForTheSmallestIsRefusedWithTheNumbers) {
  EngineOptions least = resolved(kOnDevice, kLarge);
  while (concede(kOnDevice, least)) {
  }
  FakeDevice device(needed(least) - 1);
  try {
    engine_on(device);
    FAIL();
  } catch (const VramError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("VRAM_OOM: "));
    EXPECT_EQ(error.needed, device.total + 1);
    EXPECT_EQ(error.available, device.total);
    EXPECT_EQ(error.plan.total(), error.needed);
  }
}

TEST_F(Recovery, ResidentMeansAnErrorAndNotHostMemory) {
  EngineOptions options = kLarge;
  options.resident = true;
  EngineOptions least = resolved(kOnDevice, options);
  while (concede(kOnDevice, least)) {
  }
  FakeDevice device(needed(least) - 1);
  EXPECT_THROW(engine_on(device, options), cuda::OutOfMemory);
  EXPECT_EQ(engine_on(device, kLarge)->status().memory.conceded.back().what, What::host_experts);
}

/// Requests of all sizes at once; every answer is what it is without shortages.
void expect_none_lost(Engine& engine, int requests, uint64_t seed) {
  std::vector<Request> asked;
  std::vector<TokenStream> streams;
  for (int i = 0; i < requests; ++i) {
    seed = mix_hash(seed);
    const auto part = [&](int shift, uint64_t below) {
      return static_cast<int64_t>((seed >> shift) % below);
    };
    const int64_t prompt = 1 + part(0, 300), answer = 1 + part(32, 60);
    for (int copy = 0; copy < 2; ++copy) {
      Request request = a_request(prompt, answer, seed % 5);
      request.choices = 1 + static_cast<int>(part(20, 3));
      request.prompt_logprobs = part(24, 2) == 1;
      if (copy)
        streams.push_back(submit(engine, std::move(request)));
      else
        asked.push_back(std::move(request));
    }
  }
  for (int i = 0; i < requests; ++i) {
    const Heard heard = hear(streams[i], asked[i].choices);
    for (int choice = 0; choice < asked[i].choices; ++choice) {
      EXPECT_EQ(heard.ends[choice].finish, Finish::length) << heard.ends[choice].what;
      EXPECT_EQ(heard.tokens[choice], expected(asked[i], choice)) << i;
    }
    // Each of the prompt's tokens but the first, once, in order.
    ASSERT_EQ(heard.prompt.size(), asked[i].prompt_logprobs ? asked[i].prompt.size() - 1 : 0);
    for (size_t t = 0; t < heard.prompt.size(); ++t)
      EXPECT_EQ(heard.prompt[t].position, static_cast<int64_t>(t) + 1);
  }
}

TEST_F(Recovery, InAStepNothingIsLost) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    FakeDevice device(1 << 20);
    std::set<int64_t> shortages;  // by step
    for (uint64_t at = seed; shortages.size() < 9;)
      shortages.insert(static_cast<int64_t>((at = mix_hash(at)) % 40));
    int64_t step = 0;
    device.before_step = [&](const Batch&) {
      if (shortages.contains(step++)) throw no_memory_in_a_step(1000);
    };
    auto engine = engine_on(device);
    expect_none_lost(*engine, 24, seed);
    const EngineStatus status = engine->status();
    EXPECT_EQ(status.memory.conceded.size(), shortages.size());
    EXPECT_EQ(status.memory.conceded.back().what, What::host_experts);
    EXPECT_TRUE(status.memory.conceded.back().in_step);
    EXPECT_THAT(status.memory.last_shortage, HasSubstr("1000 bytes"));
    EXPECT_EQ(status.memory.planned.weights, FakeDevice::kWeights - 3 * FakeDevice::kLayerExperts);
    EXPECT_EQ(status.max_sequences, 1);
    EXPECT_EQ(status.failed_steps, 0);
    EXPECT_GT(status.preemptions, 0);
    EXPECT_EQ(device.made, 10);
    engine.reset();
    EXPECT_EQ(log.lines_with("VRAM_OOM: 1000 bytes"), static_cast<int64_t>(9 * seed));
    EXPECT_EQ(log.lines_with("kv_format go down from F16 to Q8_0"), static_cast<int64_t>(seed));
  }
}

TEST_F(Recovery, WhatAnotherProcessTookMeanwhileIsLeftToIt) {
  FakeDevice device(needed(resolved(kOnDevice, kLarge)));
  int64_t step = 0;
  device.before_step = [&](const Batch&) {
    if (++step != 5) return;
    device.others = 3000;
    throw no_memory_in_a_step(1);
  };
  const auto engine = engine_on(device);
  expect_none_lost(*engine, 12, 3);
  const EngineStatus status = engine->status();
  EXPECT_GT(status.memory.shortages, 2);  // more had to be given up than the step asked for
  EXPECT_LE(status.memory.planned.total(), device.total - 3000);
}

TEST_F(Recovery, WithNothingLeftToGiveUpAnswersEndAndTheEngineLives) {
  FakeDevice device(1 << 20);
  std::atomic<bool> starved = true;
  device.before_step = [&](const Batch&) {
    if (!starved) return;
    device.others = device.total.load();
    throw no_memory_in_a_step(77);
  };
  const auto engine = engine_on(device);
  for (int round = 0; round < 2; ++round) {
    std::vector<TokenStream> streams;
    for (uint64_t i = 0; i < 5; ++i) streams.push_back(submit(*engine, a_request(40, 10, i)));
    for (TokenStream& stream : streams) {
      const Heard heard = hear(stream);
      EXPECT_EQ(heard.ends[0].finish, Finish::no_memory);
      EXPECT_TRUE(is_error(heard.ends[0].finish));
      EXPECT_THAT(heard.ends[0].what, testing::StartsWith("VRAM_OOM: "));
    }
    // The status follows the events.
    for (const auto until = Clock::now() + 20s;
         engine->status().memory.planned.total() > 0 && Clock::now() < until;)
      std::this_thread::sleep_for(1ms);
    EXPECT_EQ(engine->status().memory.planned.total(), 0);
  }
  // The memory comes back, and with it the answers.
  starved = false;
  device.others = 0;
  expect_none_lost(*engine, 8, 5);
}

/// Remembers what it was shown.
class Witness final : public TokenConstraint {
 public:
  explicit Witness(std::vector<int32_t>& seen) : seen_(seen) {}
  bool mask(std::span<uint32_t>) override { return false; }
  bool accept(int32_t token) override {
    seen_.push_back(token);
    return true;
  }

 private:
  std::vector<int32_t>& seen_;
};

TEST_F(Recovery, ConstraintsSeeEveryTokenOnce) {
  FakeDevice device(1 << 20);
  int64_t step = 0;
  device.before_step = [&](const Batch&) {
    if (++step % 4 == 0 && step < 30) throw no_memory_in_a_step(1);
  };
  std::vector<int32_t> seen;
  const auto engine = engine_on(device);
  Request request = a_request(90, 40, 9);
  request.constraints.push_back(std::make_unique<Witness>(seen));
  const std::vector<int32_t> answer = expected(request);
  TokenStream stream = submit(*engine, std::move(request));
  EXPECT_EQ(hear(stream).tokens[0], answer);
  EXPECT_EQ(seen, answer);
}

TEST_F(Recovery, AModelsAnswersStayWhatTheyAre) {
  const auto model = Model::open(std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano");
  const EngineOptions options{.context = 256,
                              .max_sequences = 4,
                              .max_rows = 128,
                              .kv_tokens = 1024,
                              .precision = Precision::exact};
  const auto answers = [&](Engine& engine) {
    std::vector<TokenStream> streams;
    for (uint64_t i = 0; i < 4; ++i)
      streams.push_back(submit(engine, a_request(30 + 10 * i, 12, i)));
    std::vector<std::vector<int32_t>> all;
    for (TokenStream& stream : streams) all.push_back(hear(stream).tokens[0]);
    return all;
  };
  Engine plain(*model, options);
  FakeDevice device(1 << 20);
  int64_t step = 0;
  device.before_step = [&](const Batch&) {
    if (++step == 3 || step == 8) throw no_memory_in_a_step(1);
  };
  Engine recovering(std::make_unique<FakeDeviceRunners>(device,
                                                        [&](RunnerOptions o) {
                                                          o.host_expert_layers = 0;
                                                          return model->runner(o);
                                                        }),
                    EngineShape::of(model->config()), options);
  EXPECT_EQ(answers(recovering), answers(plain));
  EXPECT_EQ(recovering.status().memory.conceded.size(), 2);
}

}  // namespace
}  // namespace mxgpt
