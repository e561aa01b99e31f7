// The model that is served: what the routes need of it, loaded once.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "model/model.h"
#include "server/grammars.h"
#include "text/chat_format.h"
#include "text/harmony/encoding.h"

namespace mxgpt::server {

struct ServedOptions {
  std::string name;    ///< that clients call the model by; empty: of its file
  std::string sha256;  ///< of the model, if it is known; else it is computed beside other work
  EngineOptions engine;
};

/// Bytes of the device's memory.
struct MemoryParts {
  int64_t weights = 0, kv = 0, workspace = 0;
  int64_t program = 0;  ///< the program itself, or what CUDA takes for it
  int64_t total() const { return weights + kv + workspace + program; }
  static MemoryParts of(const CudaPlan& plan) {
    return {plan.weights, plan.kv, plan.workspace, plan.context};
  }
};

/// What a model is and takes, said by /health.
struct ModelFacts {
  std::string quant_kind;       ///< the format that most of the weights' bytes are in
  MemoryParts planned;          ///< on the CPU
  std::string gpu, capability;  ///< "9.0"; empty on the CPU
  std::string cuda;             ///< "12.4"; empty on the CPU
};

/// Immutable but for engine and grammars, which are thread-safe.
class Served {
 public:
  /// Throws Error if the model cannot be loaded, or its tokenizer does not fit it.
  Served(std::unique_ptr<const Model> model, const ServedOptions& options);

  const std::string& name() const { return name_; }
  const Model& model() const { return *model_; }
  const ModelFacts& facts() const { return facts_; }
  Device device() const { return device_; }
  /// As `mxgpt verify` gives it; empty until it is known.
  std::string sha256() const;
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }
  Engine& engine() const { return *engine_; }
  Grammars& grammars() const { return *grammars_; }
  /// At most one of both: how the model chats. None: it only completes text.
  const std::shared_ptr<const harmony::HarmonyEncoding>& harmony() const { return harmony_; }
  const std::optional<TurnFormat>& turns() const { return turns_; }
  /// Tokens that end an answer.
  const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }
  /// The bytes of a token's text, which need not be whole characters.
  std::string bytes_of(TokenId token) const;

 private:
  std::string name_;
  std::unique_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const harmony::HarmonyEncoding> harmony_;
  std::optional<TurnFormat> turns_;
  std::vector<int32_t> stop_tokens_;
  Device device_;
  ModelFacts facts_;
  bool byte_level_ = false;  // tokens are spelled in the alphabet of byte-level BPE
  std::unique_ptr<Grammars> grammars_;
  std::unique_ptr<Engine> engine_;
  mutable std::mutex mutex_;  // of sha256_
  std::string sha256_;
  std::jthread hashing_;
};

/// Today as "2026-11-23".
std::string today();

}  // namespace mxgpt::server
