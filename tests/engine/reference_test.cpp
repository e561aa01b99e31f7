// The bounds of HACKING.md, "What correct means": the shipped model, and one of each architecture,
// against transformers in float32, teacher-forced.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "engine/session.h"
#include "io/safetensors.h"
#include "model/convert.h"
#include "model/model.h"

namespace mxgpt {
namespace {

const std::filesystem::path kNano = std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano";

template <class T>
std::vector<T> values(const FileTensor& tensor) {
  std::vector<T> result(tensor.bytes.size() / sizeof(T));
  std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

struct Agreement {
  double worst_top8 = 0;  // largest |Δ logprob| over the reference's top 8
  double kld = 0;         // mean over positions, of the distribution over top 8 and the rest
  double top1 = 0;
  double last_logits = 0;  // largest |Δ logprob| over the whole vocabulary at the last positions
  int64_t positions = 0;
};

std::vector<double> log_softmax(std::span<const float> logits) {
  double most = -INFINITY, total = 0;
  for (float l : logits) most = std::max<double>(most, l);
  for (float l : logits) total += std::exp(l - most);
  std::vector<double> result;
  for (float l : logits) result.push_back(l - most - std::log(total));
  return result;
}

/// `directory` holds the reference; `model` is what it is the reference of.
Agreement agreement(const std::filesystem::path& directory, const Model& model, Precision precision,
                    int64_t rows, Accumulate accumulate = Accumulate::f32) {
  const auto reference = SafetensorsFile::open(directory / "reference-logits.safetensors");
  Agreement a;
  for (int i = 0; reference.tensors().find(fmt::format("{}.ids", i)); ++i) {
    const auto of = [&](const char* field) -> const FileTensor& {
      return reference.tensors().at(fmt::format("{}.{}", i, field));
    };
    const auto ids = values<int32_t>(of("ids"));
    const auto top_ids = values<int32_t>(of("top_ids"));
    const auto top_logprobs = values<float>(of("top_logprobs"));
    const auto last_logits = values<float>(of("last_logits"));
    Session session(model, {.precision = precision,
                            .accumulate = accumulate,
                            .context = std::min<int64_t>(4096, model.config().context),
                            .max_rows = rows,
                            .all_logits = true});
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

Agreement agreement(const std::filesystem::path& directory, Precision precision, int64_t rows,
                    Accumulate accumulate = Accumulate::f32) {
  return agreement(directory, *Model::open(directory), precision, rows, accumulate);
}

TEST(Reference, ExactPrecisionInPrefill) {
  const Agreement a = agreement(kNano, Precision::exact, 256);
  EXPECT_GT(a.positions, 5000);
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.kld, 1e-6);
}

const std::filesystem::path kFixtures = MXGPT_FIXTURES;

/// Small checkpoints with random weights, as transformers writes them (tests/data/README.md).
class Architectures : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path checkpoint() const { return kFixtures / "architectures" / GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Checkpoints, Architectures,
                         testing::Values("gpt2-gelu-exact", "llama3-rope", "mistral-window",
                                         "qwen2", "qwen3", "phi3", "gemma3", "gpt-oss-bf16-layout"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(Architectures, ExactPrecisionInPrefillAndTokenByToken) {
  for (const int64_t rows : {16, 1}) {
    const Agreement a = agreement(checkpoint(), Precision::exact, rows);
    EXPECT_EQ(a.positions, 112 + 19 + 84 + 101);
    EXPECT_LE(a.worst_top8, 2e-3);
    EXPECT_LE(a.last_logits, 2e-3);
    EXPECT_LE(a.kld, 1e-6);
  }
}

TEST_P(Architectures, AGgufFileOfItGivesTheSame) {
  const auto source = Model::open(checkpoint());
  const std::filesystem::path path =
      testing::TempDir() + fmt::format("mxgpt-architecture-{}.gguf", ::getpid());
  const auto write = [&] {
    const auto plan = plan_tensors(*source, dense_rule(Format::bf16));
    GgufWriter writer(path);
    describe_model(*source, file_type_of(plan), "", writer);
    write_tensors(*source, plan, {}, writer, [](uint64_t) {});
    writer.finish();
  };
  if (GetParam() == std::string_view("gpt2-gelu-exact")) {
    EXPECT_THROW(write(), Error) << "GGUF files of GPT-2 imply the other GELU";
    return;
  }
  write();
  const Agreement a = agreement(checkpoint(), *Model::open(path), Precision::exact, 16);
  std::filesystem::remove(path);
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.last_logits, 2e-3);
}

TEST(Reference, Gpt2) {
  const Agreement exact = agreement(kFixtures / "gpt2-nano", Precision::exact, 256);
  EXPECT_LE(exact.worst_top8, 2e-3);
  EXPECT_LE(exact.kld, 1e-6);
  const Agreement standard = agreement(kFixtures / "gpt2-nano", Precision::standard, 256);
  EXPECT_LE(standard.kld, 2e-3);
  EXPECT_GE(standard.top1, 0.985);
}

TEST(Reference, DefaultPrecision) {
  const Agreement a = agreement(kNano, Precision::standard, 256);
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

/// Sums in f16 alone, with activations in f32, keep the bounds of the default path.
TEST(Reference, F16Accumulation) {
  const Agreement a = agreement(kNano, Precision::exact, 256, Accumulate::f16);
  EXPECT_GT(a.worst_top8, 2e-3) << "they are not f16";
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

}  // namespace
}  // namespace mxgpt
