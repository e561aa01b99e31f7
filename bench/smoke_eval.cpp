// bench/smoke_eval [MODEL] [--exact]: counts how many of the shipped model's skill prompts get an
// answer that contains the expected text, with greedy sampling, in total and by kind. A smoke test,
// not a proof.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>

#include "base/json.h"
#include "engine/generate.h"
#include "text/tokenizer/tokenizer.h"

using namespace mxgpt;

int main(int argc, char** argv) try {
  const std::filesystem::path nano = std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano";
  std::filesystem::path path = nano;
  mxgpt::backend::Precision precision = mxgpt::backend::Precision::mixed;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--exact") {
      precision = mxgpt::backend::Precision::exact;
    } else {
      path = argv[i];
    }
  }
  const auto model = mxgpt::runtime::Model::open(path);
  const auto tokenizer = mxgpt::text::Tokenizer::load(path);
  const std::vector<int32_t>& stops = model->stop_tokens();
  mxgpt::engine::Engine engine(*model,
                               {.context = 8192, .max_sequences = 1, .precision = precision});

  std::map<std::string, std::pair<int, int>> kinds;  // right, all
  int right = 0, all = 0;
  std::ifstream file(nano / "skills.jsonl");
  for (std::string line; std::getline(file, line);) {
    const json::value document = mxgpt::json::parse(line, "skills.jsonl");
    const mxgpt::json::Node skill(document, "skills.jsonl:");
    const auto prompt = tokenizer->encode(skill["prompt"].string());
    std::vector<int32_t> answer;
    mxgpt::engine::generate(
        engine, prompt, {.sampling = {.temperature = 0}, .max_tokens = 320, .stop_tokens = stops},
        [&](int32_t token) {
          answer.push_back(token);
          return true;
        });
    const bool correct =
        tokenizer->decode(answer).find(skill["expect"].string()) != std::string::npos;
    auto& kind = kinds[std::string(skill["skill"].string())];
    kind.first += correct;
    ++kind.second;
    right += correct;
    ++all;
  }
  for (const auto& [name, count] : kinds)
    fmt::print("{:<12} {:>3} of {}\n", name, count.first, count.second);
  fmt::print("smoke_eval: {} of {}\n", right, all);
  return all > 0 ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "smoke_eval: {}\n", error.what());
  return 1;
}
