// The model that is served: what the routes need of it, loaded once.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "chat/chat_model.h"
#include "chat/prepare_chat.h"
#include "engine/engine.h"
#include "runtime/model.h"

namespace mxgpt::server {

struct ServedModelOptions {
  std::string name;    ///< that clients call the model by; empty: of its file
  std::string sha256;  ///< of the model, if it is known; else it is computed beside other work
  engine::EngineOptions engine;
};

/// Bytes of the device's memory.
struct MemoryBreakdown {
  int64_t weights = 0, kv_cache = 0, workspace = 0;
  int64_t runtime = 0;  ///< the program on the CPU; the driver's context on a GPU
  int64_t total() const { return weights + kv_cache + workspace + runtime; }
  static MemoryBreakdown of(const runtime::MemoryPlan& plan) {
    return {plan.weights, plan.kv_cache, plan.workspace, plan.runtime};
  }
};

/// What a model is and takes, said by /health.
struct ModelInfo {
  std::string weight_format;  ///< the format that most of the weights' bytes are in
  runtime::DeviceInfo device;
};

/// Immutable, except for the engine and the grammar compiler, which are thread-safe.
class ServedModel {
 public:
  /// Throws Error if the model cannot be loaded, or its tokenizer does not fit it.
  ServedModel(std::unique_ptr<const runtime::Model> model, const ServedModelOptions& options);

  const std::string& name() const { return name_; }
  const runtime::Model& model() const { return *model_; }
  const ModelInfo& info() const { return info_; }
  std::string_view device() const { return device_; }
  /// As `mxgpt verify` gives it; empty until it is known.
  std::string sha256() const;
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return chat_->tokenizer(); }
  engine::Engine& engine() const { return *engine_; }
  const chat::ChatModel& chat() const { return *chat_; }
  chat::GrammarCompiler& grammar_compiler() const { return chat_->grammars(); }
  /// Tokens that end an answer.
  const std::vector<int32_t>& stop_tokens() const { return chat_->stop_tokens(); }
  /// Throws ApiError if the model has no chat format, and what chat::prepare_chat() throws.
  chat::PreparedChat prepare_chat(const chat::ChatRequest& request) const;
  /// The bytes of a token's text, which need not be whole characters.
  std::string token_bytes(text::TokenId token) const;

 private:
  std::string name_;
  std::unique_ptr<const runtime::Model> model_;
  std::unique_ptr<const chat::ChatModel> chat_;
  std::string_view device_;
  ModelInfo info_;
  std::unique_ptr<engine::Engine> engine_;
  mutable std::mutex mutex_;  // of sha256_
  std::string sha256_;
  std::jthread hash_thread_;
};

}  // namespace mxgpt::server
