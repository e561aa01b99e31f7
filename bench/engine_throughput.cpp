// bench/engine_throughput [MODEL] [TOKENS]: tokens per second of the engine with 1, 8, 32 and 128
// concurrent streams, compared with a single session; engine overhead per step; sampling from a
// large vocabulary. Uses the shipped model's skill prompts and TOKENS greedy tokens each (default
// 64).
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/json.h"
#include "engine/engine.h"
#include "engine/scoring_session.h"
#include "text/tokenizer/tokenizer.h"

using namespace mxgpt;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Prints microseconds per sampled token of 201,088, by kind of sampling, on realistic logits.
void time_sampling() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(-2, 3);
  std::vector<float> logits(201088);
  for (float& logit : logits) logit = normal(random);
  for (int t = 0; t < 40; ++t) logits[t * 5000] = 12 + normal(random);
  const std::pair<const char*, mxgpt::engine::SamplingParams> kinds[] = {
      {"greedy", {.temperature = 0}},
      {"temperature 1", {}},
      {"top-k 40", {.top_k = 40}},
      {"top-p 0.95", {.top_p = 0.95}},
      {"top-p 0.999, temperature 2", {.temperature = 2, .top_p = 0.999}},
      {"min-p 0.05", {.min_p = 0.05}},
      {"with penalties", {.presence_penalty = 0.5}}};
  for (const auto& [name, params] : kinds) {
    mxgpt::engine::Sampler sampler(params, {});
    const auto start = Clock::now();
    constexpr int kDraws = 50;
    for (int i = 0; i < kDraws; ++i) (void)sampler.sample(logits);
    fmt::print("sample, {:<26} {:>8.0f} us\n", name, seconds_since(start) / kDraws * 1e6);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const std::filesystem::path nano = std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano";
  const std::filesystem::path path = argc > 1 ? argv[1] : nano;
  const int64_t tokens = argc > 2 ? std::stoll(argv[2]) : 64;
  const auto model = mxgpt::runtime::Model::open(path);
  const auto tokenizer = mxgpt::text::Tokenizer::load(path);
  std::vector<std::vector<int32_t>> prompts;
  std::ifstream file(nano / "skills.jsonl");
  for (std::string line; std::getline(file, line);) {
    const json::value document = mxgpt::json::parse(line, "skills.jsonl");
    prompts.push_back(
        tokenizer->encode(mxgpt::json::Node(document, "skills.jsonl:")["prompt"].string()));
  }
  time_sampling();

  {
    mxgpt::engine::ScoringSession session(*model, {.context = 4096});
    const auto start = Clock::now();
    constexpr int kAnswers = 4;
    for (int i = 0; i < kAnswers; ++i) {
      session.reset();
      mxgpt::engine::Sampler sampler({.temperature = 0}, {});
      std::span<const float> logits = session.feed(prompts[i]);
      for (int64_t t = 1;; ++t) {
        const int32_t token = sampler.sample(logits).value();
        if (t == tokens) break;
        logits = session.feed({&token, 1});
      }
    }
    fmt::print("session, 1 stream: {:.0f} tokens/s\n",
               static_cast<double>(kAnswers * tokens) / seconds_since(start));
  }
  for (const bool drafts : {false, true}) {
    for (const int64_t streams : {1, 8, 32, 128}) {
      mxgpt::engine::Engine engine(
          *model, {.context = 4096, .max_sequences = streams, .speculate = drafts});
      const int64_t answers = std::max<int64_t>(4, streams);
      const auto start = Clock::now();
      std::vector<mxgpt::engine::TokenStream> open;
      for (int64_t i = 0; i < answers; ++i) {
        open.push_back(std::get<mxgpt::engine::TokenStream>(engine.submit(
            {.prompt = prompts[i], .max_tokens = tokens, .sampling = {.temperature = 0}})));
      }
      for (mxgpt::engine::TokenStream& stream : open) {
        for (bool last = false; !last;) {
          for (const mxgpt::engine::StreamEvent& event : stream.wait())
            last = std::holds_alternative<mxgpt::engine::ChoiceEnd>(event);
        }
      }
      const double seconds = seconds_since(start);
      engine.drain(Clock::now());
      const mxgpt::engine::EngineStatus s = engine.status();
      const auto steps = static_cast<double>(s.steps);
      fmt::print(
          "engine, {:>3} streams{}: {:>6.0f} tokens/s; {:>5} steps of {:.2f} ms, {:.0f} us of them "
          "the engine's; {} prompt tokens of {} from the cache; {} of {} drafts accepted\n",
          streams, drafts ? ", drafts" : "", static_cast<double>(s.output_tokens) / seconds,
          s.steps, s.busy_seconds / steps * 1e3, (s.busy_seconds - s.step_seconds) / steps * 1e6,
          s.cached_tokens, s.prompt_tokens, s.accepted_draft_tokens, s.draft_tokens);
    }
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "engine_throughput: {}\n", error.what());
  return 1;
}
