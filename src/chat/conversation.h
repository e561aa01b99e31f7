// A conversation with one user: what was said, and the loop that answers a question.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "chat/prepare_chat.h"
#include "engine/generate.h"

namespace mxgpt::chat {

/// The caller's side of a turn.
struct TurnCallbacks {
  std::function<void(const OutputDelta&)> on_delta;
  /// One run of the model has ended: an answer, or the calls that come next.
  std::function<void()> on_run_end;
  /// Runs a tool and returns its result; nothing cancels the turn.
  std::function<std::optional<std::string>(const ChatItem& call)> call_tool;
  std::function<bool()> cancelled;
};

/// Keeps the conversation; the engine caches its tokens between turns.
class Conversation {
 public:
  /// `settings` without items; `model` outlives the conversation. Throws what
  /// check_features() does.
  Conversation(const ChatModel& model, ChatRequest settings, std::optional<std::string> system);

  /// Answers `text`, calling tools until the answer is final. Returns the totals of all runs. After
  /// an exception the conversation is as before.
  engine::GenerationResult ask(engine::Engine& engine, const std::string& text,
                               const TurnCallbacks& callbacks);

  /// Forgets everything but the system message.
  void reset();

 private:
  engine::GenerationResult run(engine::Engine& engine, const TurnCallbacks& callbacks);

  const ChatModel& model_;
  ChatRequest request_;
  std::optional<std::string> system_;
};

}  // namespace mxgpt::chat
