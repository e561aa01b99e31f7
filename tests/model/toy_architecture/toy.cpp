// A bigram model: the logits of a token are the head over its normalized embedding.
#include "model/architecture.h"
#include "runtime/forward_runner.h"

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

template <class Backend, class Memory>
void forward(Backend& b, const Config& c, const Weights& w, Memory& s,
             const backend::Batch& batch) {
  b.begin(batch);
  b.embed({.table = w.embedding, .x = s.x});
  b.norm_logits({.x = s.x,
                 .norm = {.weight = w.final_norm, .eps = static_cast<float>(c.norm_eps)},
                 .head = {w.lm_head, {}},
                 .logits = s.logits});
}

}  // namespace

namespace architectures {
extern const Architecture toy{
    .gguf = "toy",
    .model_types = kModelTypes,
    .tensors = kTensors,
    .config_from_gguf =
        [](const io::GgufMetadata& m) {
          return config(m.integer("toy.vocab_size", 1, 1000),
                        m.integer("toy.embedding_length", 1, 1000));
        },
    .config_from_checkpoint =
        [](const json::Node& j) {
          return config(j["vocab_size"].integer(1, 1000), j["hidden_size"].integer(1, 1000));
        },
    .write_gguf_metadata = [](const Config&, io::GgufWriter&) {},
    .create_runner =
        [](const Config& c, const Weights& w, const runtime::RunnerOptions& options) {
          return runtime::create_runner(c, w, options, [](auto&... args) { forward(args...); });
        }};
}  // namespace architectures
}  // namespace mxgpt::model
