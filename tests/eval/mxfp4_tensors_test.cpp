// Every kind of weight tensor runs from MXFP4: embedding, Q, K, V, O, fused projections, dense
// MLPs, experts, output head. A model with one kind of tensor in MXFP4 must compute the same as
// with that tensor dequantized to f32, in steps of one token and of many.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/scoring_session.h"
#include "eval/teacher_forcing.h"
#include "quant/mxfp4/mxfp4.h"
#include "runtime/model.h"

namespace mxgpt::eval {
namespace {

namespace fs = std::filesystem;

/// Weights of a model with one kind of tensor replaced.
struct ModifiedWeights {
  model::Weights weights;
  std::list<std::vector<std::byte>> owned;
};

std::vector<float> values_of(const backend::Tensor& tensor) {
  std::vector<float> values(tensor.num_experts * tensor.rows * tensor.k);
  quant::traits(tensor.format)
      .dequantize(tensor.data, static_cast<int64_t>(values.size()), values.data());
  return values;
}

/// `rewrite` returns the bytes of a tensor in `format`.
template <class Rewrite>
ModifiedWeights with_tensor(const runtime::Model& model, const model::TensorSpec& spec,
                            quant::Format format, Rewrite rewrite) {
  ModifiedWeights result{model.weights(), {}};
  for (const model::TensorRef& ref : model::tensor_refs({&spec, 1}, model.config())) {
    backend::Tensor& tensor = ref.get(result.weights);
    result.owned.push_back(rewrite(tensor));
    tensor.format = format;
    tensor.data = result.owned.back().data();
  }
  return result;
}

std::vector<std::byte> in_mxfp4(const backend::Tensor& tensor) {
  const std::vector<float> values = values_of(tensor);
  std::vector<std::byte> blocks(quant::traits(quant::Format::mxfp4).row_bytes(values.size()));
  quant::mxfp4_quantize(values.data(), static_cast<int64_t>(values.size()), nullptr, blocks.data());
  return blocks;
}

std::vector<std::byte> in_f32(const backend::Tensor& tensor) {
  const std::vector<float> values = values_of(tensor);
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Text in the training distribution of the shipped model; arbitrary ids for others.
const std::vector<int32_t>& prompt_for(const runtime::Model& model) {
  static const std::vector<int32_t> sensible = [] {
    std::ifstream file(MXGPT_ROOT "/models/gpt-oss-nano/reference-greedy.jsonl");
    std::vector<int32_t> ids;
    for (std::string line; ids.size() < 36 && std::getline(file, line);) {
      const json::value document = json::parse(line, "reference-greedy.jsonl");
      for (const char* field : {"prompt_ids", "output_ids"}) {
        for (const json::value& id : document.at(field).as_array())
          ids.push_back(static_cast<int32_t>(id.as_int64()));
      }
    }
    ids.resize(36);
    return ids;
  }();
  static const std::vector<int32_t> any = [] {
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 40; ++i) ids.push_back((7 + 37 * i) % 1000);
    return ids;
  }();
  return model.config().vocabulary == 8064 ? sensible : any;
}

/// Logits at all positions.
std::vector<float> logits_of(const runtime::Model& model, const model::Weights& weights,
                             backend::Precision precision, int64_t rows_per_step) {
  const std::vector<int32_t>& tokens = prompt_for(model);
  engine::ScoringSession session(model.architecture(), model.config(), weights,
                                 {.precision = precision,
                                  .context = static_cast<int64_t>(tokens.size()),
                                  .max_batched_tokens = rows_per_step,
                                  .all_logits = true});
  std::vector<float> all;
  session.feed(tokens, [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

/// Σ (a - b)² / Σ b².
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return error / size;
}

/// Mean KL divergence from the distributions of `b`.
double mean_divergence(const std::vector<float>& a, const std::vector<float>& b,
                       size_t vocabulary) {
  double total = 0;
  for (size_t at = 0; at < b.size(); at += vocabulary) {
    const std::span row_a(&a[at], vocabulary), row_b(&b[at], vocabulary);
    const double sum_a = log_sum_exp(row_a), sum_b = log_sum_exp(row_b);
    for (size_t i = 0; i < vocabulary; ++i) {
      const double log_b = row_b[i] - sum_b;
      total += std::exp(log_b) * (log_b - (row_a[i] - sum_a));
    }
  }
  return total / static_cast<double>(b.size() / vocabulary);
}

struct TensorCase {
  std::string model;  ///< path
  const model::TensorSpec* spec;
};

const runtime::Model& open_once(const std::string& path) {
  static std::map<std::string, std::unique_ptr<runtime::Model>> models;
  auto& model = models[path];
  if (!model) model = runtime::Model::open(path);
  return *model;
}

std::vector<TensorCase> all_tensors() {
  std::vector<TensorCase> consumers;
  const fs::path fixtures = MXGPT_FIXTURES;
  for (const fs::path& path :
       {fs::path(MXGPT_ROOT) / "models" / "gpt-oss-nano", fixtures / "gpt2-nano",
        fixtures / "architectures" / "mistral-window", fixtures / "architectures" / "phi3",
        fixtures / "architectures" / "gemma3"}) {
    const runtime::Model& model = open_once(path.string());
    for (const model::TensorSpec& spec : model.architecture().tensors) {
      if (spec.role == model::Role::vector || spec.role == model::Role::router ||
          !model.has({&spec, 0}))
        continue;
      if (model::dim(model.config(), spec.k) % quant::Mxfp4::kElements == 0)
        consumers.push_back({path.string(), &spec});
    }
  }
  return consumers;
}

class Mxfp4Consumer : public testing::TestWithParam<TensorCase> {};

std::string name_of(const testing::TestParamInfo<TensorCase>& info) {
  std::string name = fs::path(info.param.model).filename().string() + "_";
  const std::string_view tensor = info.param.spec->gguf;
  name += tensor.substr(tensor.starts_with("blk") ? 7 : 0);
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Mxfp4Consumer, testing::ValuesIn(all_tensors()), name_of);

TEST_P(Mxfp4Consumer, RunsAsItsDequantizedWeights) {
  const runtime::Model& model = open_once(GetParam().model);
  const model::TensorSpec& spec = *GetParam().spec;
  const ModifiedWeights mxfp4 = with_tensor(model, spec, quant::Format::mxfp4, in_mxfp4);
  ModifiedWeights dequantized{mxfp4.weights, {}};
  for (const model::TensorRef& ref : model::tensor_refs({&spec, 1}, model.config())) {
    backend::Tensor& tensor = ref.get(dequantized.weights);
    dequantized.owned.push_back(in_f32(tensor));
    tensor.format = quant::Format::f32;
    tensor.data = dequantized.owned.back().data();
  }
  const auto expected = logits_of(model, dequantized.weights, backend::Precision::exact, 32);
  for (const int64_t rows : {1, 32}) {
    SCOPED_TRACE(rows);
    // The same products in f32, summed in another order.
    EXPECT_LE(
        relative_error(logits_of(model, mxfp4.weights, backend::Precision::exact, rows), expected),
        1e-10);
    // 16-bit activations: the bound of default precision.
    EXPECT_LE(mean_divergence(logits_of(model, mxfp4.weights, backend::Precision::mixed, rows),
                              expected, model.config().vocabulary),
              2e-3);
  }
  // The tensor has an effect: without quantization, logits differ (experts of the released layout
  // are MXFP4 already).
  if (model::TensorRef{&spec, 0}.get(model.weights()).format != quant::Format::mxfp4) {
    EXPECT_GE(
        relative_error(logits_of(model, model.weights(), backend::Precision::exact, 32), expected),
        1e-5);
  }
}

}  // namespace
}  // namespace mxgpt::eval
