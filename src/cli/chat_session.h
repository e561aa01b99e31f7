// A chat at the terminal.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/conversation.h"
#include "engine/generate.h"
#include "model/model_file.h"
#include "text/chat/harmony/conversation_builder.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::cli {

struct ChatOptions {
  std::string format;                 ///< one of chat_format_names(); empty: the model's own
  std::optional<std::string> system;  ///< instructions for the model
  std::optional<harmony::ReasoningEffort> effort;
  std::vector<harmony::ToolDescription> tools;
  std::optional<json::value> schema;  ///< JSON Schema of the answer
  std::string schema_path;            ///< its file, for errors
  bool no_thinking = false;
  bool show_reasoning = false;
  std::vector<std::string> stops;
  engine::GenerateOptions generate;
};

/// Prints a conversation and keeps it.
class ChatSession {
 public:
  /// Throws Error if the model's chat format is unknown or lacks a feature that the options ask
  /// for.
  ChatSession(const model::ModelFile& model, std::shared_ptr<const text::Tokenizer> tokenizer,
              const ChatOptions& options);

  /// Prints the answer to `text` as it is generated. Tool calls are printed, and their results read
  /// from standard input. Returns the totals of the turn.
  engine::GenerationResult ask(engine::Engine& engine, std::string_view text);

  /// Forgets everything but the system message.
  void reset() { conversation_.reset(); }

 private:
  chat::ChatModel model_;
  chat::Conversation conversation_;
  bool show_reasoning_;
  std::function<bool()> cancelled_;
};

}  // namespace mxgpt::cli
