#include "chat/conversation.h"

#include <fmt/format.h>

#include <utility>

namespace mxgpt::chat {

namespace {

using Kind = ChatItem::Kind;

/// Appends a delta to the items of the assistant's turn.
void append(std::vector<ChatItem>& items, size_t first, const OutputDelta& delta) {
  const auto kind = [&] {
    switch (delta.kind) {
      case OutputDelta::Kind::reasoning:
        return Kind::reasoning;
      case OutputDelta::Kind::content:
        return delta.is_commentary ? Kind::commentary : Kind::assistant;
      case OutputDelta::Kind::tool_call:
      case OutputDelta::Kind::arguments:
        break;
    }
    return Kind::tool_call;
  }();
  if (delta.kind == OutputDelta::Kind::tool_call) {
    items.push_back({.kind = kind, .id = fmt::format("call_{}", items.size()), .name = delta.text});
    return;
  }
  const bool continues = items.size() > first && items.back().kind == kind &&
                         (!delta.starts_message || kind == Kind::tool_call);
  if (!continues) items.push_back({.kind = kind});
  items.back().text += delta.text;
}

}  // namespace

Conversation::Conversation(const ChatModel& model, ChatRequest settings,
                           std::optional<std::string> system)
    : model_(model), request_(std::move(settings)), system_(std::move(system)) {
  check_features(model_, request_);
  reset();
}

void Conversation::reset() {
  request_.items.clear();
  if (system_) request_.items.push_back({.kind = Kind::instructions, .text = *system_});
}

engine::GenerationResult Conversation::ask(engine::Engine& engine, const std::string& text,
                                           const TurnCallbacks& callbacks) {
  const size_t before = request_.items.size();
  request_.items.push_back({.kind = Kind::user, .text = text});
  try {
    engine::GenerationResult total = run(engine, callbacks);
    while (total.finish_reason == engine::FinishReason::stop &&
           request_.items.back().kind == Kind::tool_call) {
      const ChatItem call = request_.items.back();
      std::optional<std::string> result = callbacks.call_tool(call);
      if (!result) {
        request_.items.resize(before);  // a call without a result cannot be rendered
        total.finish_reason = engine::FinishReason::cancelled;
        break;
      }
      request_.items.push_back(
          {.kind = Kind::tool_result, .text = *std::move(result), .id = call.id});
      const engine::GenerationResult next = run(engine, callbacks);
      total.finish_reason = next.finish_reason;
      total.context_full = next.context_full;
      total.prompt_tokens += next.prompt_tokens;
      total.cached_tokens += next.cached_tokens;
      total.output_tokens += next.output_tokens;
      total.prefill_seconds += next.prefill_seconds;
      total.decode_seconds += next.decode_seconds;
    }
    if (request_.items.back().kind == Kind::tool_call) request_.items.pop_back();  // cut off
    return total;
  } catch (...) {
    request_.items.resize(before);
    throw;
  }
}

engine::GenerationResult Conversation::run(engine::Engine& engine, const TurnCallbacks& callbacks) {
  PreparedChat prepared = prepare_chat(model_, request_, engine.context());
  OutputParser& parser = *prepared.parsers.front();
  const size_t first = request_.items.size();
  std::vector<OutputDelta> deltas;
  const auto deliver = [&] {
    for (const OutputDelta& delta : deltas) {
      append(request_.items, first, delta);
      callbacks.on_delta(delta);
    }
    deltas.clear();
  };
  const engine::GenerationResult result = engine::generate(
      engine, std::move(prepared.request),
      [&](int32_t token) {
        const bool more = parser.push(token, deltas);
        deliver();
        return more;
      },
      callbacks.cancelled);
  parser.finish(deltas);
  deliver();
  // Templates require the roles to alternate, even after an answer that was cut off at once.
  if (model_.chat_template() && request_.items.back().kind != Kind::assistant)
    request_.items.push_back({.kind = Kind::assistant});
  callbacks.on_run_end();
  return result;
}

}  // namespace mxgpt::chat
