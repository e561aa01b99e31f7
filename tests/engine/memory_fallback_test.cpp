// Too little device memory: the order of the fallbacks, and that no request is lost.
#include "engine/memory_fallback.h"

#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "runtime/model.h"
#include "support/fake_device.h"
#include "support/fake_engine.h"
#include "support/nano.h"

namespace mxgpt::engine {
namespace {

using Kind = MemoryFallback::Kind;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr EngineShape kOnDevice{.vocabulary = kShape.vocabulary,
                                .context = kShape.context,
                                .has_kv_group = {true, true},
                                .window = kShape.window,
                                .supports_q8_kv = true,
                                .expert_layers = FakeDevice::kLayers};
constexpr EngineOptions kLarge{.context = 512,
                               .max_sequences = 8,
                               .max_batched_tokens = 256,
                               .kv_tokens = 4096,
                               .device = "cuda"};

int64_t needed(const EngineOptions& options) {
  return FakeDevice::plan(Engine::runner_options(kOnDevice, options)).total();
}

std::unique_ptr<Engine> make_engine_on(FakeDevice& device, const EngineOptions& options = kLarge) {
  return std::make_unique<Engine>(
      std::make_unique<FakeDeviceRunnerFactory>(device,
                                                [](const runtime::RunnerOptions& o) {
                                                  return std::make_unique<FakeRunner>(
                                                      o, kShape.vocabulary, kShape.window);
                                                }),
      kOnDevice, options);
}

/// Captures the log during its lifetime.
class Log {
 public:
  Log() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  /// Call after the engine is destroyed.
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

class MemoryRecovery : public testing::Test {
 protected:
  Log log;
};

/// All fallbacks, in order.
std::vector<Kind> all_fallbacks(const EngineShape& shape, EngineOptions options) {
  std::vector<Kind> all;
  int64_t before = needed(options);
  while (const std::optional<MemoryFallback> c = next_fallback(shape, options)) {
    EXPECT_NE(c->from, c->to);
    EXPECT_EQ(options.context, 512);
    EXPECT_LT(needed(options), before) << name(c->kind);
    before = needed(options);
    all.push_back(c->kind);
  }
  return all;
}

TEST(FallbackOrder, PrefillSpeedFirstCpuOffloadLast) {
  EXPECT_THAT(all_fallbacks(kOnDevice, resolve_defaults(kOnDevice, kLarge)),
              ElementsAre(Kind::batched_tokens, Kind::batched_tokens, Kind::sequences,
                          Kind::sequences, Kind::sequences, Kind::kv_format, Kind::cpu_offload,
                          Kind::cpu_offload, Kind::cpu_offload, Kind::cpu_offload));
  EngineOptions resident = kLarge;
  resident.no_offload = true;
  EXPECT_THAT(all_fallbacks(kOnDevice, resolve_defaults(kOnDevice, resident)),
              ElementsAre(Kind::batched_tokens, Kind::batched_tokens, Kind::sequences,
                          Kind::sequences, Kind::sequences, Kind::kv_format));
  // Exact precision keeps an f32 cache; fallbacks that the model does not support are skipped.
  EngineOptions smallest{
      .context = 512, .max_sequences = 1, .max_batched_tokens = 64, .kv_tokens = 1};
  smallest.precision = backend::Precision::exact;
  EXPECT_THAT(all_fallbacks(kShape, resolve_defaults(kShape, smallest)), IsEmpty());
}

TEST(FallbackOrder, EndsAtTheSmallestOptions) {
  EngineOptions options = resolve_defaults(kOnDevice, kLarge);
  while (next_fallback(kOnDevice, options)) {
  }
  EXPECT_EQ(options.max_batched_tokens, kMinBatchedTokens);
  EXPECT_EQ(options.max_sequences, 1);
  EXPECT_EQ(options.kv_tokens, options.context);
  EXPECT_EQ(options.kv_format, quant::Format::q8_0);
  EXPECT_EQ(options.cpu_offload_layers, FakeDevice::kLayers);
}

Request a_request(int64_t prompt, int64_t answer, uint64_t seed) {
  return {.prompt = random_tokens(prompt, seed), .max_tokens = answer, .sampling = {.seed = seed}};
}

TEST_F(MemoryRecovery, LoadUsesTheLargestThatFits) {
  EngineOptions options = resolve_defaults(kOnDevice, kLarge);
  for (size_t fallbacks = 0;; ++fallbacks) {
    // Exactly enough memory for these options.
    FakeDevice device(needed(options));
    {
      const auto engine = make_engine_on(device);
      const EngineStatus status = engine->status();
      EXPECT_EQ(status.memory.applied_fallbacks.size(), fallbacks);
      EXPECT_EQ(status.memory.shortages, static_cast<int64_t>(fallbacks));
      EXPECT_EQ(status.memory.planned.total(), device.total);
      EXPECT_EQ(status.max_batched_tokens, options.max_batched_tokens);
      EXPECT_EQ(status.max_sequences, options.max_sequences);
      for (const MemoryFallback& c : status.memory.applied_fallbacks) {
        EXPECT_FALSE(c.during_step);
        EXPECT_GT(c.needed, c.available);
        EXPECT_EQ(c.available, device.total);
      }
      const Request request = a_request(100, 20, fallbacks);
      TokenStream stream = submit(*engine, a_request(100, 20, fallbacks));
      EXPECT_EQ(read_stream(stream).tokens[0], expected_tokens(request));
    }
    if (!next_fallback(kOnDevice, options)) break;
  }
}

TEST_F(MemoryRecovery, LoadFailsBelowTheSmallest) {
  EngineOptions smallest = resolve_defaults(kOnDevice, kLarge);
  while (next_fallback(kOnDevice, smallest)) {
  }
  FakeDevice device(needed(smallest) - 1);
  try {
    make_engine_on(device);
    FAIL();
  } catch (const runtime::MemoryPlanError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("VRAM_OOM: "));
    EXPECT_EQ(error.needed, device.total + 1);
    EXPECT_EQ(error.available, device.total);
    EXPECT_EQ(error.plan.total(), error.needed);
  }
}

TEST_F(MemoryRecovery, NoOffloadFailsInsteadOfOffloading) {
  EngineOptions options = kLarge;
  options.no_offload = true;
  EngineOptions smallest = resolve_defaults(kOnDevice, options);
  while (next_fallback(kOnDevice, smallest)) {
  }
  FakeDevice device(needed(smallest) - 1);
  EXPECT_THROW(make_engine_on(device, options), runtime::OutOfDeviceMemory);
  EXPECT_EQ(make_engine_on(device, kLarge)->status().memory.applied_fallbacks.back().kind,
            Kind::cpu_offload);
}

/// Runs requests of all sizes at once; their output must equal that without shortages.
void expect_no_request_lost(Engine& engine, int requests, uint64_t seed) {
  std::vector<Request> requests_sent;
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
        requests_sent.push_back(std::move(request));
    }
  }
  for (int i = 0; i < requests; ++i) {
    const StreamResult heard = read_stream(streams[i], requests_sent[i].choices);
    for (int choice = 0; choice < requests_sent[i].choices; ++choice) {
      EXPECT_EQ(heard.ends[choice].finish_reason, FinishReason::length) << heard.ends[choice].error;
      EXPECT_EQ(heard.tokens[choice], expected_tokens(requests_sent[i], choice)) << i;
    }
    // All prompt tokens but the first, once, in order.
    ASSERT_EQ(heard.prompt.size(),
              requests_sent[i].prompt_logprobs ? requests_sent[i].prompt.size() - 1 : 0);
    for (size_t t = 0; t < heard.prompt.size(); ++t)
      EXPECT_EQ(heard.prompt[t].position, static_cast<int64_t>(t) + 1);
  }
}

TEST_F(MemoryRecovery, NoRequestIsLostInAStep) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    FakeDevice device(1 << 20);
    std::set<int64_t> shortages;  // by step
    for (uint64_t at = seed; shortages.size() < 9;)
      shortages.insert(static_cast<int64_t>((at = mix_hash(at)) % 40));
    int64_t step = 0;
    device.before_step = [&](const backend::Batch&) {
      if (shortages.contains(step++)) throw out_of_memory_in_step(1000);
    };
    auto engine = make_engine_on(device);
    expect_no_request_lost(*engine, 24, seed);
    const EngineStatus status = engine->status();
    EXPECT_EQ(status.memory.applied_fallbacks.size(), shortages.size());
    EXPECT_EQ(status.memory.applied_fallbacks.back().kind, Kind::cpu_offload);
    EXPECT_TRUE(status.memory.applied_fallbacks.back().during_step);
    EXPECT_THAT(status.memory.last_shortage, HasSubstr("1000 bytes"));
    EXPECT_EQ(status.memory.planned.weights, FakeDevice::kWeights - 3 * FakeDevice::kLayerExperts);
    EXPECT_EQ(status.max_sequences, 1);
    EXPECT_EQ(status.failed_steps, 0);
    EXPECT_GT(status.preemptions, 0);
    EXPECT_EQ(device.runners_created, 10);
    engine.reset();
    EXPECT_EQ(log.lines_with("VRAM_OOM: 1000 bytes"), static_cast<int64_t>(9 * seed));
    EXPECT_EQ(log.lines_with("reducing kv_format from F16 to Q8_0"), static_cast<int64_t>(seed));
  }
}

TEST_F(MemoryRecovery, AdaptsToOtherProcesses) {
  FakeDevice device(needed(resolve_defaults(kOnDevice, kLarge)));
  int64_t step = 0;
  device.before_step = [&](const backend::Batch&) {
    if (++step != 5) return;
    device.used_by_others = 3000;
    throw out_of_memory_in_step(1);
  };
  const auto engine = make_engine_on(device);
  expect_no_request_lost(*engine, 12, 3);
  const EngineStatus status = engine->status();
  EXPECT_GT(status.memory.shortages, 2);  // further fallbacks were needed to create the runner
  EXPECT_LE(status.memory.planned.total(), device.total - 3000);
}

TEST_F(MemoryRecovery, EngineSurvivesWithoutFallbacks) {
  FakeDevice device(1 << 20);
  std::atomic<bool> starved = true;
  device.before_step = [&](const backend::Batch&) {
    if (!starved) return;
    device.used_by_others = device.total.load();
    throw out_of_memory_in_step(77);
  };
  const auto engine = make_engine_on(device);
  for (int round = 0; round < 2; ++round) {
    std::vector<TokenStream> streams;
    for (uint64_t i = 0; i < 5; ++i) streams.push_back(submit(*engine, a_request(40, 10, i)));
    for (TokenStream& stream : streams) {
      const StreamResult heard = read_stream(stream);
      EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::out_of_memory);
      EXPECT_TRUE(is_error(heard.ends[0].finish_reason));
      EXPECT_THAT(heard.ends[0].error, testing::StartsWith("VRAM_OOM: "));
    }
    // The status is published after the events.
    for (const auto until = Clock::now() + 20s;
         engine->status().memory.planned.total() > 0 && Clock::now() < until;)
      std::this_thread::sleep_for(1ms);
    EXPECT_EQ(engine->status().memory.planned.total(), 0);
  }
  // Requests succeed again once memory is free.
  starved = false;
  device.used_by_others = 0;
  expect_no_request_lost(*engine, 8, 5);
}

/// Records accepted tokens.
class RecordingConstraint final : public TokenConstraint {
 public:
  explicit RecordingConstraint(std::vector<int32_t>& seen) : seen_(seen) {}
  bool mask(std::span<uint32_t>) override { return false; }
  bool accept(int32_t token) override {
    seen_.push_back(token);
    return true;
  }

 private:
  std::vector<int32_t>& seen_;
};

TEST_F(MemoryRecovery, ConstraintsAcceptEveryTokenOnce) {
  FakeDevice device(1 << 20);
  int64_t step = 0;
  device.before_step = [&](const backend::Batch&) {
    if (++step % 4 == 0 && step < 30) throw out_of_memory_in_step(1);
  };
  std::vector<int32_t> seen;
  const auto engine = make_engine_on(device);
  Request request = a_request(90, 40, 9);
  request.constraints.push_back(std::make_unique<RecordingConstraint>(seen));
  const std::vector<int32_t> answer = expected_tokens(request);
  TokenStream stream = submit(*engine, std::move(request));
  EXPECT_EQ(read_stream(stream).tokens[0], answer);
  EXPECT_EQ(seen, answer);
}

TEST_F(MemoryRecovery, ModelOutputIsUnchanged) {
  const auto model = runtime::Model::open(kNano);
  const EngineOptions options{.context = 256,
                              .max_sequences = 4,
                              .max_batched_tokens = 128,
                              .kv_tokens = 1024,
                              .precision = backend::Precision::exact};
  const auto answers = [&](Engine& engine) {
    std::vector<TokenStream> streams;
    for (uint64_t i = 0; i < 4; ++i)
      streams.push_back(submit(engine, a_request(30 + 10 * i, 12, i)));
    std::vector<std::vector<int32_t>> all;
    for (TokenStream& stream : streams) all.push_back(read_stream(stream).tokens[0]);
    return all;
  };
  Engine plain(*model, options);
  FakeDevice device(1 << 20);
  int64_t step = 0;
  device.before_step = [&](const backend::Batch&) {
    if (++step == 3 || step == 8) throw out_of_memory_in_step(1);
  };
  Engine recovering(std::make_unique<FakeDeviceRunnerFactory>(device,
                                                              [&](runtime::RunnerOptions o) {
                                                                o.cpu_offload_layers = 0;
                                                                return model->create_runner(o);
                                                              }),
                    EngineShape::from_config(model->config()), options);
  EXPECT_EQ(answers(recovering), answers(plain));
  EXPECT_EQ(recovering.status().memory.applied_fallbacks.size(), 2);
}

}  // namespace
}  // namespace mxgpt::engine
