// A bigram model: the logits of a token are the head over its normalized embedding.
#include "model/architecture.h"

namespace mxgpt::model {
namespace {

using enum Dim;

constexpr std::string_view kModelTypes[] = {"toy"};

constexpr TensorSpec kTensors[] = {
    {"token_embd.weight", "embed.weight", &Weights::embedding, one, vocabulary, hidden,
     Role::embedding},
    {"output_norm.weight", "norm.weight", &Weights::final_norm, one, one, hidden, Role::vector},
    {"output.weight", "head.weight", &Weights::lm_head, one, vocabulary, hidden, Role::dense},
};

Config config(int64_t vocabulary_size, int64_t hidden_size) {
  Config c;
  c.architecture = "toy";
  c.vocabulary = vocabulary_size;
  c.hidden = hidden_size;
  c.context = 64;
  c.layers = c.heads = c.kv_heads = c.intermediate = 1;
  c.head_dim = 2;
  c.is_sliding = {false};
  return c;
}

void forward(backend::Backend& b, const Config& c, const Weights& w, const RunState& s) {
  b.embed({.table = w.embedding, .x = s.x});
  b.lm_head({.x = s.x,
             .norm = {.weight = w.final_norm, .eps = static_cast<float>(c.norm_eps)},
             .linear = {w.lm_head, {}},
             .logits = s.logits});
}

}  // namespace

namespace architectures {
extern const Architecture toy{.gguf = "toy",
                              .model_types = kModelTypes,
                              .tensors = kTensors,
                              .config_from_gguf =
                                  [](const io::GgufMetadata& m) {
                                    return config(m.integer("toy.vocab_size", 1, 1000),
                                                  m.integer("toy.embedding_length", 1, 1000));
                                  },
                              .config_from_checkpoint =
                                  [](const json::Node& j) {
                                    return config(j["vocab_size"].integer(1, 1000),
                                                  j["hidden_size"].integer(1, 1000));
                                  },
                              .write_gguf_metadata = [](const Config&, io::GgufWriter&) {},
                              .forward = forward};
}  // namespace architectures
}  // namespace mxgpt::model
