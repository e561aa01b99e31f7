// A conversation at the terminal, in the chat format of the model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "text/chat/harmony/conversation_builder.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::cli {

/// What the person asked for; make_chat refuses what the format has no place for.
struct ChatOptions {
  std::string format;                 ///< of chat_format_names(); empty: the model's own
  std::string date;                   ///< today, "2026-11-23"
  std::optional<std::string> system;  ///< instructions for the model
  std::optional<harmony::ReasoningEffort> effort;
  std::vector<harmony::ToolDescription> tools;
  bool no_thinking = false;
  bool show_reasoning = false;
  std::vector<std::string> stops;
  engine::GenerateOptions generate;
};

/// Keeps what was said; the engine keeps its tokens between turns.
class ChatSession {
 public:
  virtual ~ChatSession() = default;

  /// One turn: the user's text goes in, the answer is printed as it comes. Calls of tools are
  /// printed, and their results read from standard input, until the answer is final. Counts of the
  /// whole turn come back.
  virtual engine::GenerationResult ask(engine::Engine& engine, std::string_view text) = 0;

  /// Forgets everything said.
  virtual void reset() = 0;
};

/// Throws Error if the model's format cannot be told, or lacks what the options ask for.
std::unique_ptr<ChatSession> make_chat_session(const model::ModelFile& model,
                                               std::shared_ptr<const text::Tokenizer> tokenizer,
                                               ChatOptions options);

}  // namespace mxgpt::cli
