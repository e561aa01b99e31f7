// Reported device memory, on a fake device.
#include "server/api/admin/health.h"

#include <gmock/gmock.h>

#include "server/api/metrics.h"
#include "support/fake_device.h"
#include "support/fake_engine.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr engine::EngineOptions kLarge{.context = 512,
                                       .max_sequences = 8,
                                       .max_batched_tokens = 256,
                                       .kv_tokens = 4096,
                                       .device = "cuda"};

int64_t required_memory(const engine::EngineOptions& options) {
  return FakeDevice::plan(engine::Engine::runner_options(kShape, options)).total();
}

std::unique_ptr<engine::Engine> engine_on(FakeDevice& device) {
  const auto runner = [](const runtime::RunnerOptions& options) {
    return std::make_unique<FakeRunner>(options, kShape.vocabulary, kShape.window);
  };
  return std::make_unique<engine::Engine>(std::make_unique<FakeDeviceRunnerFactory>(device, runner),
                                          kShape, kLarge);
}

json::object memory_of(const engine::EngineStatus& status) {
  return memory_json(status.memory, status.memory.planned.total());
}

TEST(Health, EnoughMemoryIsReady) {
  FakeDevice device(required_memory(kLarge));
  const engine::EngineStatus status = engine_on(device)->status();
  EXPECT_EQ(degraded_reason(status, {}), "");
  const json::object memory = memory_of(status);
  EXPECT_EQ(memory.at("planned").as_int64(), required_memory(kLarge));
  EXPECT_EQ(memory.at("weights").as_int64(), FakeDevice::kWeights);
  EXPECT_EQ(memory.at("runtime").as_int64(), FakeDevice::kContext);
  EXPECT_EQ(memory.at("shortages").as_int64(), 0);
  EXPECT_TRUE(memory.at("budget").is_null() && memory.at("last_shortage").is_null());
  EXPECT_TRUE(memory.at("fallbacks").as_array().empty());
}

TEST(Health, FallbacksAreReported) {
  FakeDevice device(required_memory(kLarge) - 1);
  const auto engine = engine_on(device);
  const engine::EngineStatus status = engine->status();
  EXPECT_THAT(degraded_reason(status, {}), StartsWith("VRAM_OOM"));
  EXPECT_THAT(degraded_reason(status, {.last_error = "disk full"}),
              HasSubstr("not stored: disk full"));
  const json::object memory = memory_of(status);
  EXPECT_LT(memory.at("planned").as_int64(), required_memory(kLarge));
  EXPECT_EQ(memory.at("shortages").as_int64(), 1);
  EXPECT_THAT(memory.at("last_shortage").as_string().c_str(), StartsWith("VRAM_OOM"));
  const json::object& first = memory.at("fallbacks").at(0).as_object();
  EXPECT_EQ(first.at("kind").as_string(), "prompt_rows");
  EXPECT_EQ(first.at("from").as_string(), "256 tokens");
  EXPECT_EQ(first.at("to").as_string(), "128 tokens");
  EXPECT_EQ(first.at("during").as_string(), "load");
  EXPECT_EQ(first.at("needed").as_int64(), required_memory(kLarge));
  EXPECT_EQ(first.at("available").as_int64(), required_memory(kLarge) - 1);
  const std::string metrics = Metrics().render(&status, {});
  EXPECT_THAT(metrics, HasSubstr("\nmxgpt_memory_shortages_total 1\n"));
  EXPECT_THAT(metrics, HasSubstr("\nmxgpt_memory_fallbacks 1\n"));
}

TEST(Health, AShortageDuringAStepIsReportedAsSuch) {
  FakeDevice device(required_memory(kLarge));
  bool short_once = true;
  device.before_step = [&](const backend::Batch&) {
    if (std::exchange(short_once, false)) throw out_of_memory_in_step(1000);
  };
  const auto engine = engine_on(device);
  engine::TokenStream stream = submit(*engine, {.prompt = random_tokens(20, 1), .max_tokens = 5});
  EXPECT_EQ(read_stream(stream).ends[0].finish_reason, engine::FinishReason::length);
  const json::object memory = memory_of(engine->status());
  EXPECT_EQ(memory.at("fallbacks").at(0).at("during").as_string(), "step");
  EXPECT_EQ(memory.at("fallbacks").at(0).at("needed").as_int64(), 1000);
}

}  // namespace
}  // namespace mxgpt::server
