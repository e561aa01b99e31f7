// Opening models: validation of configurations and tensors, and RoPE scaling.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <numbers>

#include "base/error.h"
#include "base/json.h"
#include "io/gguf_writer.h"
#include "model/config_parser.h"
#include "model/weight_loader.h"
#include "support/message_of.h"

namespace mxgpt::model {
namespace {

using testing::HasSubstr;

const std::filesystem::path kNano = std::filesystem::path(MXGPT_ROOT) / "models/gpt-oss-nano";

TEST(ModelFile, OpensTheShippedCheckpoint) {
  const ModelFile file(kNano);
  const Config& c = file.config();
  EXPECT_EQ(c.architecture, "gpt-oss");
  EXPECT_EQ(c.layers, 6);
  EXPECT_EQ(c.vocabulary, 8064);
  EXPECT_EQ(c.window, 128);
  EXPECT_TRUE(c.is_sliding[0]);
  EXPECT_FALSE(c.is_sliding[1]);
  EXPECT_FALSE(c.rope_for(backend::KvGroup::full).yarn.truncate);
  EXPECT_THAT(file.stop_tokens(), testing::UnorderedElementsAre(8004, 8001, 8014));
  const HostWeights host(file, {});
  const Weights& w = host.weights();
  EXPECT_EQ(w.layers[0].gate.format, quant::Format::mxfp4);
  EXPECT_EQ(w.layers[0].gate.num_experts, 12);
  EXPECT_EQ(w.layers[5].sinks.format, quant::Format::f32);
}

TEST(ModelFile, GateAndUpRowsAlternateInTheCheckpoint) {
  const ModelFile model(kNano);
  const HostWeights host(model, {});
  const auto file = io::SafetensorsFile::open(kNano / "model.safetensors");
  const auto blocks = file.tensors().at("model.layers.3.mlp.experts.gate_up_proj_blocks").bytes;
  const auto scales = file.tensors().at("model.layers.3.mlp.experts.gate_up_proj_scales").bytes;
  const Layer& layer = host.weights().layers[3];
  for (const auto& [tensor, odd] : {std::pair(layer.gate, 0), std::pair(layer.up, 1)}) {
    for (const int64_t expert : {0, 11}) {
      for (const int64_t row : {0, 7, 287}) {
        std::vector<float> values(288);
        quant::traits(tensor.format)
            .dequantize(tensor.expert(expert) + row * tensor.row_bytes(), 288, values.data());
        const int64_t at = (expert * 576 + 2 * row + odd) * 9;
        for (int64_t i = 0; i < 288; ++i) {
          constexpr double kE2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
          const int code = static_cast<int>(blocks[at * 16 + i / 2]) >> (i % 2 * 4) & 0xf;
          const double scale = std::ldexp(1.0, static_cast<int>(scales[at + i / 32]) - 127);
          ASSERT_EQ(values[i], kE2m1[code & 7] * (code & 8 ? -1 : 1) * scale)
              << expert << " " << row << " " << i;
        }
      }
    }
  }
}

/// A small gpt-oss GGUF file with one modification.
class GgufModels : public testing::Test {
 protected:
  using Numbers = std::map<std::string, uint32_t>;
  using Shapes = std::map<std::string, std::pair<quant::Format, std::vector<int64_t>>>;

  Numbers numbers{{"block_count", 1},
                  {"context_length", 64},
                  {"embedding_length", 32},
                  {"attention.head_count", 2},
                  {"attention.head_count_kv", 1},
                  {"attention.key_length", 16},
                  {"attention.value_length", 16},
                  {"expert_count", 2},
                  {"expert_used_count", 1},
                  {"expert_feed_forward_length", 32},
                  {"attention.sliding_window", 8},
                  {"vocab_size", 10}};
  Shapes shapes;
  std::string architecture = "gpt-oss";

  GgufModels() {
    const auto f32 = [&](const char* name, std::vector<int64_t> shape) {
      shapes[name] = {quant::Format::f32, std::move(shape)};
    };
    f32("token_embd.weight", {10, 32});
    f32("output.weight", {10, 32});
    f32("output_norm.weight", {32});
    f32("blk.0.attn_norm.weight", {32});
    f32("blk.0.post_attention_norm.weight", {32});
    for (const char* name : {"q", "k", "v"}) {
      const int64_t rows = *name == 'q' ? 32 : 16;
      f32(fmt::format("blk.0.attn_{}.weight", name).c_str(), {rows, 32});
      f32(fmt::format("blk.0.attn_{}.bias", name).c_str(), {rows});
    }
    f32("blk.0.attn_output.weight", {32, 32});
    f32("blk.0.attn_output.bias", {32});
    f32("blk.0.attn_sinks.weight", {2});
    f32("blk.0.ffn_gate_inp.weight", {2, 32});
    f32("blk.0.ffn_gate_inp.bias", {2});
    for (const char* name : {"gate", "up", "down"}) {
      shapes[fmt::format("blk.0.ffn_{}_exps.weight", name)] = {quant::Format::mxfp4, {2, 32, 32}};
      f32(fmt::format("blk.0.ffn_{}_exps.bias", name).c_str(), {2, 32});
    }
  }

  /// The error of opening the model and loading its weights; empty if none.
  std::string error_message() {
    const std::filesystem::path path =
        testing::TempDir() + fmt::format("mxgpt-model-test-{}.gguf", ::getpid());
    io::GgufWriter writer(path);
    writer.add<std::string_view>("general.architecture", architecture);
    for (const auto& [key, value] : numbers) writer.add<uint32_t>("gpt-oss." + key, value);
    writer.add<float>("gpt-oss.attention.layer_norm_rms_epsilon", epsilon);
    writer.add<float>("gpt-oss.rope.freq_base", 10000);
    for (const auto& [name, tensor] : shapes) {
      writer.add_tensor(name, tensor.first, tensor.second);
    }
    for (const auto& [name, tensor] : shapes) {
      int64_t elements = 1;
      for (const int64_t d : tensor.second) elements *= d;
      const std::vector<std::byte> zeros(quant::traits(tensor.first).row_bytes(elements));
      writer.write(zeros);
    }
    writer.finish();
    std::string what;
    try {
      HostWeights(ModelFile(path), {});
    } catch (const Error& error) {
      what = error.what();
    }
    std::filesystem::remove(path);
    return what;
  }

  float epsilon = 1e-5f;
};

TEST_F(GgufModels, UnchangedFileLoads) {
  EXPECT_EQ(error_message(), "");
}

TEST_F(GgufModels, UnknownArchitecture) {
  architecture = "mamba";
  EXPECT_THAT(error_message(), HasSubstr("'mamba'; mxgpt runs gpt-oss"));
}

TEST_F(GgufModels, InvalidConfiguration) {
  const auto with = [&](const char* key, uint32_t value) {
    const Numbers before = numbers;
    numbers[key] = value;
    const std::string what = error_message();
    numbers = before;
    return what;
  };
  EXPECT_THAT(with("block_count", 0), HasSubstr("gpt-oss.block_count"));
  EXPECT_THAT(with("block_count", 4000000000u), HasSubstr("4000000000"));
  EXPECT_THAT(with("attention.head_count", 0), HasSubstr("head_count"));
  EXPECT_THAT(with("attention.head_count_kv", 3), HasSubstr("key/value heads"));
  EXPECT_THAT(with("attention.value_length", 8), HasSubstr("value_length"));
  numbers["attention.value_length"] = 15;
  EXPECT_THAT(with("attention.key_length", 15), HasSubstr("the size of a head is 15"));
  numbers["attention.value_length"] = 16;
  EXPECT_THAT(with("expert_used_count", 3), HasSubstr("chosen experts"));
  EXPECT_THAT(with("attention.sliding_window", 0), HasSubstr("sliding_window"));
  EXPECT_THAT(with("vocab_size", 11),
              HasSubstr("shape [10, 32], but the configuration asks for [11, 32]"));
  EXPECT_THAT(with("embedding_length", 64), HasSubstr("shape"));
  epsilon = std::nanf("");
  EXPECT_NE(error_message(), "");
  epsilon = -1;
  EXPECT_THAT(error_message(), HasSubstr("epsilon"));
}

TEST_F(GgufModels, InvalidTensors) {
  shapes.erase("blk.0.attn_sinks.weight");
  EXPECT_THAT(error_message(), HasSubstr("blk.0.attn_sinks.weight"));
  shapes["blk.0.attn_sinks.weight"] = {quant::Format::f32, {3}};
  EXPECT_THAT(error_message(), HasSubstr("shape [3], but the configuration asks for [2]"));
  shapes["blk.0.attn_sinks.weight"] = {quant::Format::f32, {2}};
  shapes["output_norm.weight"] = {quant::Format::q8_0, {32}};
  EXPECT_THAT(error_message(), HasSubstr("norms and biases cannot be"));
}

TEST_F(GgufModels, UnknownTensor) {
  shapes["rope_factors_long.weight"] = {quant::Format::f32, {8}};
  EXPECT_THAT(error_message(), HasSubstr("'rope_factors_long.weight', which mxgpt's gpt-oss"));
}

TEST_F(GgufModels, EveryFormatForEveryMatrix) {
  for (int f = 0; f < quant::kFormatCount; ++f) {
    const auto format = static_cast<quant::Format>(f);
    if (quant::traits(format).block_elements > 32) continue;  // rows have 32 elements
    for (auto& [name, tensor] : shapes) {
      if (tensor.second.size() > 1 && !name.ends_with("bias")) tensor.first = format;
    }
    EXPECT_EQ(error_message(), "") << quant::traits(format).name;
  }
}

TEST(ModelFile, InvalidPathsAreNamed) {
  const auto error_message = [](const std::filesystem::path& path) -> std::string {
    try {
      ModelFile{path};
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(error_message("/nowhere/model.gguf"), HasSubstr("/nowhere/model.gguf"));
  EXPECT_THAT(error_message(testing::TempDir()), HasSubstr("config.json"));
  EXPECT_THAT(error_message(kNano / "config.json"), HasSubstr("GGUF"));
}

TEST(Rope, YarnScalesSlowDimensions) {
  const auto plain = rope_frequencies({.base = 150000}, 64);
  const auto yarn = rope_frequencies(
      {.base = 150000, .yarn = {.factor = 32, .original_context = 4096, .truncate = false}}, 64);
  EXPECT_EQ(plain.magnitude, 1);
  EXPECT_FLOAT_EQ(yarn.magnitude, static_cast<float>(0.1 * std::log(32.0) + 1));
  EXPECT_EQ(yarn.inv_freq[0], 1);
  EXPECT_EQ(yarn.inv_freq[5], plain.inv_freq[5]);
  EXPECT_FLOAT_EQ(yarn.inv_freq[31], plain.inv_freq[31] / 32);
  for (size_t i = 0; i < 32; ++i) {
    // Rotations within the original context: above 32 kept, below 1 divided by the factor.
    const double turns = 4096 * plain.inv_freq[i] / (2 * std::numbers::pi);
    if (turns > 32) {
      EXPECT_EQ(yarn.inv_freq[i], plain.inv_freq[i]) << i;
    } else if (turns < 1) {
      EXPECT_FLOAT_EQ(yarn.inv_freq[i], plain.inv_freq[i] / 32) << i;
    } else {
      EXPECT_LT(yarn.inv_freq[i], plain.inv_freq[i]) << i;
      EXPECT_GT(yarn.inv_freq[i], plain.inv_freq[i] / 32) << i;
    }
  }
}

TEST(ModelFile, MissingHeadIsAnErrorUnlessTied) {
  const auto tied = std::filesystem::path(MXGPT_FIXTURES) / "architectures" / "qwen2";
  const auto folder =
      std::filesystem::path(testing::TempDir()) / fmt::format("tied-{}", ::getpid());
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(tied / "model.safetensors", folder / "model.safetensors");
  std::ifstream config(tied / "config.json");
  std::string text(std::istreambuf_iterator<char>(config), {});
  const std::string field = "\"tie_word_embeddings\": ";
  text.replace(text.find(field + "true"), field.size() + 4, field + "false");
  std::ofstream(folder / "config.json") << text;
  EXPECT_NO_THROW(ModelFile{tied});
  EXPECT_THAT(message_of([&] { ModelFile{folder}; }),
              testing::AllOf(HasSubstr("lm_head.weight"), HasSubstr("tie_word_embeddings")));
  std::filesystem::remove_all(folder);
}

/// Expected values computed independently with the formulas of transformers'
/// modeling_rope_utils.py.
TEST(Rope, YarnWithTruncatedRamp) {
  const auto yarn =
      rope_frequencies({.base = 1e6, .yarn = {.factor = 4, .original_context = 32768}}, 128);
  EXPECT_EQ(yarn.inv_freq[0], 1);
  EXPECT_FLOAT_EQ(yarn.inv_freq[30], 0.001064360981247002f);
  EXPECT_FLOAT_EQ(yarn.inv_freq[35], 0.0002462584069089387f);
  EXPECT_FLOAT_EQ(yarn.inv_freq[40], 4.445698525097307e-05f);
  EXPECT_FLOAT_EQ(yarn.inv_freq[63], 3.102344401879299e-07f);
}

TEST(Rope, Llama3ScalesLowFrequencies) {
  const auto document = json::parse(
      R"({"rope_type": "llama3", "rope_theta": 500000, "factor": 8, "low_freq_factor": 1,
          "high_freq_factor": 4, "original_max_position_embeddings": 8192})",
      "test");
  const json::Node node(document, "test:");
  const auto rope = rope_frequencies(parse_rope_config(node, node, 128), 128);
  EXPECT_EQ(rope.inv_freq[0], 1);
  EXPECT_FLOAT_EQ(rope.inv_freq[20], 0.016560440080994446f);
  EXPECT_FLOAT_EQ(rope.inv_freq[28], 0.003211445994752591f);
  EXPECT_FLOAT_EQ(rope.inv_freq[30], 0.0013718935677611381f);
  EXPECT_FLOAT_EQ(rope.inv_freq[34], 0.0001785078127679964f);
  EXPECT_FLOAT_EQ(rope.inv_freq[63], 3.068925988914511e-07f);
}

TEST(Rope, UnknownScalingIsRejected) {
  const auto error_message = [](const char* text) {
    const auto document = json::parse(text, "test");
    const json::Node node(document, "test:");
    return message_of([&] { parse_rope_config(node, node, 64); });
  };
  EXPECT_THAT(error_message(R"({"rope_type": "longrope"})"), HasSubstr("longrope"));
  EXPECT_THAT(error_message(R"({"partial_rotary_factor": 0.5})"),
              HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(error_message(R"({"type": "linear"})"), HasSubstr("factor"));
}

}  // namespace
}  // namespace mxgpt::model
