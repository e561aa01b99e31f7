// Agreement of a model's logits with those of transformers in float32, teacher-forced.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/json.h"
#include "engine/generate.h"
#include "engine/scoring_session.h"
#include "io/safetensors.h"
#include "runtime/model.h"

namespace mxgpt {

template <class T>
std::vector<T> values(const io::FileTensor& tensor) {
  std::vector<T> result(tensor.bytes.size() / sizeof(T));
  std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

struct Agreement {
  double worst_top8 = 0;  // largest |Δ logprob| over the reference's top 8
  double kld = 0;         // mean over positions, over the top 8 and the rest as one class
  double top1 = 0;
  double last_logits = 0;  // largest |Δ logprob| over the whole vocabulary at the last positions
  int64_t positions = 0;
};

inline std::vector<double> log_softmax(std::span<const float> logits) {
  double most = -INFINITY, total = 0;
  for (float l : logits) most = std::max<double>(most, l);
  for (float l : logits) total += std::exp(l - most);
  std::vector<double> result;
  for (float l : logits) result.push_back(l - most - std::log(total));
  return result;
}

/// Compares `model` with the reference in `directory`.
inline Agreement agreement(const std::filesystem::path& directory, const runtime::Model& model,
                           engine::ScoringOptions options) {
  const auto reference = io::SafetensorsFile::open(directory / "reference-logits.safetensors");
  Agreement a;
  for (int i = 0; reference.tensors().find(fmt::format("{}.ids", i)); ++i) {
    const auto of = [&](const char* field) -> const io::FileTensor& {
      return reference.tensors().at(fmt::format("{}.{}", i, field));
    };
    const auto ids = values<int32_t>(of("ids"));
    const auto top_ids = values<int32_t>(of("top_ids"));
    const auto top_logprobs = values<float>(of("top_logprobs"));
    const auto last_logits = values<float>(of("last_logits"));
    options.context = std::min<int64_t>(4096, model.config().context);
    options.all_logits = true;
    engine::ScoringSession session(model, options);
    session.feed(ids, [&](int64_t position, std::span<const float> logits) {
      const std::vector<double> ours = log_softmax(logits);
      double kld = 0, rest_theirs = 1, rest_ours = 1;
      for (int64_t j = position * 8; j < position * 8 + 8; ++j) {
        const double theirs = top_logprobs[j], mine = ours[top_ids[j]];
        a.worst_top8 = std::max(a.worst_top8, std::abs(theirs - mine));
        kld += std::exp(theirs) * (theirs - mine);
        rest_theirs -= std::exp(theirs);
        rest_ours -= std::exp(mine);
      }
      if (rest_theirs > 1e-9 && rest_ours > 1e-9)
        kld += rest_theirs * std::log(rest_theirs / rest_ours);
      a.kld += kld;
      a.top1 += std::max_element(ours.begin(), ours.end()) - ours.begin() == top_ids[position * 8];
      ++a.positions;
      if (position + 1 == static_cast<int64_t>(ids.size())) {
        const std::vector<double> theirs = log_softmax(last_logits);
        for (size_t v = 0; v < theirs.size(); ++v) {
          a.last_logits = std::max(a.last_logits, std::abs(theirs[v] - ours[v]));
        }
      }
    });
  }
  a.kld /= static_cast<double>(a.positions);
  a.top1 /= static_cast<double>(a.positions);
  fmt::print(
      "{} positions: max |d logprob| {:.2e} (last, all: {:.2e}), mean KLD {:.2e}, top-1 {:.4f}\n",
      a.positions, a.worst_top8, a.last_logits, a.kld, a.top1);
  return a;
}

/// Number of prompts to which the engine gives the reference's greedy output.
inline int equal_greedy_answers(engine::Engine& engine, const std::filesystem::path& directory) {
  std::ifstream file(directory / "reference-greedy.jsonl");
  int equal = 0, all = 0;
  for (std::string line; std::getline(file, line); ++all) {
    const json::value document = json::parse(line, "reference-greedy.jsonl");
    const json::Node node(document, "reference-greedy.jsonl:");
    const auto ids = [&](const char* field) {
      std::vector<int32_t> result;
      for (const auto& v : node[field].array()) result.push_back(v.to_number<int32_t>());
      return result;
    };
    const std::vector<int32_t> prompt = ids("prompt_ids"), expected = ids("output_ids");
    std::vector<int32_t> got;
    const engine::GenerateOptions options{.sampling = {.temperature = 0},
                                          .max_tokens = static_cast<int64_t>(expected.size())};
    engine::generate(engine, prompt, options, [&](int32_t token) {
      got.push_back(token);
      return true;
    });
    equal += got == expected;
    EXPECT_EQ(got, expected) << "prompt " << all + 1;
  }
  fmt::print("{} of {} greedy answers equal\n", equal, all);
  return equal;
}

}  // namespace mxgpt
