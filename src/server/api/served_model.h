// The served model: everything that the routes need, loaded once.
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
  std::string name;    ///< model name for clients; empty: derived from the file name
  std::string sha256;  ///< of the model; empty: computed in the background
  engine::EngineOptions engine;
};

/// Facts about the model that /health reports.
struct ModelInfo {
  std::string weight_format;  ///< format of most weight bytes
  runtime::DeviceInfo device;
};

/// Immutable, except for the engine and the grammar compiler, which are thread-safe.
class ServedModel {
 public:
  /// Throws Error if the model cannot be loaded or its tokenizer does not match it.
  ServedModel(std::unique_ptr<const runtime::Model> model, const ServedModelOptions& options);

  const std::string& name() const { return name_; }
  const runtime::Model& model() const { return *model_; }
  const ModelInfo& info() const { return info_; }
  std::string_view device() const { return device_; }
  /// As `mxgpt verify` reports it; empty until it is computed.
  std::string sha256() const;
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return chat_->tokenizer(); }
  engine::Engine& engine() const { return *engine_; }
  const chat::ChatModel& chat() const { return *chat_; }
  chat::GrammarCompiler& grammar_compiler() const { return chat_->grammars(); }
  /// Tokens that end a response.
  const std::vector<int32_t>& stop_tokens() const { return chat_->stop_tokens(); }
  /// Throws ApiError if the model has no chat format, and what chat::prepare_chat() throws.
  chat::PreparedChat prepare_chat(const chat::ChatRequest& request) const;
  /// The bytes of a token's text, which may be part of a character.
  std::string token_bytes(text::TokenId token) const;

 private:
  std::string name_;
  std::unique_ptr<const runtime::Model> model_;
  std::unique_ptr<const chat::ChatModel> chat_;
  std::string_view device_;
  ModelInfo info_;
  std::unique_ptr<engine::Engine> engine_;
  mutable std::mutex mutex_;  // guards sha256_
  std::string sha256_;
  std::jthread hash_thread_;
};

}  // namespace mxgpt::server
