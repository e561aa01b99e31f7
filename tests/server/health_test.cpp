// What the server says of a GPU's memory, on a device whose memory is only counted.
#include "server/health.h"

#include <gmock/gmock.h>

#include "engine/fake_device.h"
#include "engine/fake_engine.h"
#include "server/metrics.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr EngineOptions kLarge{
    .context = 512, .max_sequences = 8, .max_rows = 256, .kv_tokens = 4096, .device = Device::cuda};

int64_t needed(const EngineOptions& options) {
  return FakeDevice::plan(Engine::runner_options(kShape, options)).total();
}

std::unique_ptr<Engine> engine_on(FakeDevice& device) {
  const auto runner = [](const RunnerOptions& options) {
    return std::make_unique<FakeRunner>(options, kShape.vocabulary, kShape.window);
  };
  return std::make_unique<Engine>(std::make_unique<FakeDeviceRunners>(device, runner), kShape,
                                  kLarge);
}

json::object described(const EngineStatus& status) {
  const MemoryParts planned = MemoryParts::of(status.memory.planned);
  return describe_memory(status.memory, planned, planned.total());
}

TEST(Health, EnoughMemoryIsReady) {
  FakeDevice device(needed(kLarge));
  const EngineStatus status = engine_on(device)->status();
  EXPECT_EQ(failure(status, {}), "");
  const json::object memory = described(status);
  EXPECT_EQ(memory.at("planned").as_int64(), needed(kLarge));
  EXPECT_EQ(memory.at("weights").as_int64(), FakeDevice::kWeights);
  EXPECT_EQ(memory.at("program").as_int64(), FakeDevice::kContext);
  EXPECT_EQ(memory.at("shortages").as_int64(), 0);
  EXPECT_TRUE(memory.at("budget").is_null() && memory.at("last_shortage").is_null());
  EXPECT_TRUE(memory.at("conceded").as_array().empty());
}

TEST(Health, WhatWasGivenUpIsSaid) {
  FakeDevice device(needed(kLarge) - 1);
  const auto engine = engine_on(device);
  const EngineStatus status = engine->status();
  EXPECT_THAT(failure(status, {}), StartsWith("VRAM_OOM"));
  EXPECT_THAT(failure(status, {.last_error = "disk full"}), HasSubstr("not stored: disk full"));
  const json::object memory = described(status);
  EXPECT_LT(memory.at("planned").as_int64(), needed(kLarge));
  EXPECT_EQ(memory.at("shortages").as_int64(), 1);
  EXPECT_THAT(memory.at("last_shortage").as_string().c_str(), StartsWith("VRAM_OOM"));
  const json::object& first = memory.at("conceded").at(0).as_object();
  EXPECT_EQ(first.at("what").as_string(), "prompt_rows");
  EXPECT_EQ(first.at("from").as_string(), "256 tokens");
  EXPECT_EQ(first.at("to").as_string(), "128 tokens");
  EXPECT_EQ(first.at("while").as_string(), "loading");
  EXPECT_EQ(first.at("needed").as_int64(), needed(kLarge));
  EXPECT_EQ(first.at("available").as_int64(), needed(kLarge) - 1);
  const std::string metrics = Metrics().text(&status, {});
  EXPECT_THAT(metrics, HasSubstr("\nmxgpt_memory_shortages_total 1\n"));
  EXPECT_THAT(metrics, HasSubstr("\nmxgpt_memory_conceded 1\n"));
}

TEST(Health, AShortageInAStepIsToldApart) {
  FakeDevice device(needed(kLarge));
  bool short_once = true;
  device.before_step = [&](const Batch&) {
    if (std::exchange(short_once, false)) throw no_memory_in_a_step(1000);
  };
  const auto engine = engine_on(device);
  TokenStream stream = submit(*engine, {.prompt = text(20, 1), .max_tokens = 5});
  EXPECT_EQ(hear(stream).ends[0].finish, Finish::length);
  const json::object memory = described(engine->status());
  EXPECT_EQ(memory.at("conceded").at(0).at("while").as_string(), "computing");
  EXPECT_EQ(memory.at("conceded").at(0).at("needed").as_int64(), 1000);
}

}  // namespace
}  // namespace mxgpt::server
