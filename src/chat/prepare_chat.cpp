#include "chat/prepare_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/escape.h"
#include "chat/constraints/harmony_constraint.h"
#include "server/api/api_error.h"
#include "text/chat/harmony/conversation_builder.h"

namespace mxgpt::chat {

namespace {

using Kind = ChatItem::Kind;
using harmony::Message;
using harmony::Role;
using Items = std::span<const ChatItem>;

[[noreturn]] void fail(const std::string& field, const std::string& message) {
  throw server::ApiError(400, fmt::format("{}: {}", field, message), field, "invalid_value");
}

/// The instructions in front; how many items they take.
size_t leading_instructions(Items items, std::string& out) {
  size_t i = 0;
  for (; i < items.size() && items[i].kind == Kind::instructions; ++i) {
    if (!out.empty() && !items[i].text.empty()) out += "\n\n";
    out += items[i].text;
  }
  return i;
}

Message assistant_message(const std::string& text, const char* channel) {
  Message message = harmony::make_message(Role::kAssistant, text);
  message.channel = channel;
  return message;
}

/// Calls with the reasoning among them, then their results: each call with the result that answers
/// it. The number of the first item behind.
size_t append_tool_calls(Items items, size_t first, harmony::Conversation& chat) {
  size_t middle = first;
  while (middle < items.size() &&
         (items[middle].kind == Kind::tool_call || items[middle].kind == Kind::reasoning))
    ++middle;
  size_t end = middle;
  std::map<std::string_view, size_t> results;  // by call, the number of the item
  for (; end < items.size() && items[end].kind == Kind::tool_result; ++end) {
    if (!results.emplace(items[end].id, end).second)
      fail(items[end].field, "answers a call a second time");
  }
  for (size_t i = first; i < middle; ++i) {
    const ChatItem& item = items[i];
    if (item.kind == Kind::reasoning) {
      chat.messages.push_back(assistant_message(item.text, "analysis"));
      continue;
    }
    const auto result = results.find(item.id);
    if (result == results.end())
      fail(item.field,
           fmt::format("nothing after it answers the call '{}'", escape_for_terminal(item.id)));
    Message called = assistant_message(item.text, "commentary");
    called.recipient = fmt::format("functions.{}", item.name);
    called.content_type = "<|constrain|>json";
    chat.messages.push_back(called);
    chat.messages.push_back(harmony::tool_result(called, items[result->second].text));
    results.erase(result);
  }
  if (!results.empty()) {
    const auto& [id, number] = *results.begin();
    fail(items[number].field, fmt::format("'{}' is no call before it", escape_for_terminal(id)));
  }
  return end;
}

void append_items(Items items, harmony::Conversation& chat) {
  for (size_t i = 0; i < items.size();) {
    const ChatItem& item = items[i];
    switch (item.kind) {
      case Kind::instructions: {
        harmony::DeveloperContent developer;
        developer.instructions = item.text;
        chat.messages.push_back(harmony::make_message(Role::kDeveloper, std::move(developer)));
        break;
      }
      case Kind::user:
        chat.messages.push_back(harmony::make_message(Role::kUser, item.text));
        break;
      case Kind::reasoning:
        chat.messages.push_back(assistant_message(item.text, "analysis"));
        break;
      case Kind::commentary:
        chat.messages.push_back(assistant_message(item.text, "commentary"));
        break;
      case Kind::assistant:
        chat.messages.push_back(assistant_message(item.text, "final"));
        break;
      case Kind::tool_call:
      case Kind::tool_result:
        i = append_tool_calls(items, i, chat);
        continue;
    }
    ++i;
  }
}

/// Where a turn begins that the ones before can be left out of: at its question.
std::vector<size_t> turn_starts(Items items) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < items.size(); ++i)
    if (items[i].kind == Kind::user && (i == 0 || items[i - 1].kind != Kind::user))
      starts.push_back(i);
  return starts;
}

/// `render(i)` is the prompt without the items before number i.
template <typename Render>
std::vector<int32_t> render_truncated(const server::ServedModel& served, const ChatRequest& dialog,
                                      Items items, const engine::Request& request, Render render) {
  std::vector<int32_t> prompt = render(0);
  if (!dialog.truncate) return prompt;
  const int64_t context = served.engine().context();
  const int64_t reserved_tokens = std::min(request.max_tokens.value_or(context / 4), context / 2);
  const auto fits = [&] {
    return static_cast<int64_t>(prompt.size()) + reserved_tokens <= context;
  };
  if (fits()) return prompt;
  const std::vector<size_t> starts = turn_starts(items);
  // The first turn from which it fits; with none, the last.
  size_t low = 0, high = starts.empty() ? 0 : starts.size() - 1;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    prompt = render(starts[middle]);
    (fits() ? high : low) = fits() ? middle : middle + 1;
  }
  return starts.empty() ? prompt : render(starts[low]);
}

std::vector<std::unique_ptr<OutputParser>> prepare_harmony(const server::ServedModel& served,
                                                           const ChatRequest& dialog,
                                                           engine::Request& request) {
  const ToolConfig& tools = dialog.tools;
  harmony::ConversationOptions setup{.date = server::today(), .functions = tools.declared};
  if (dialog.effort) setup.reasoning_effort = *dialog.effort;
  const Items items =
      Items(dialog.items).subspan(leading_instructions(dialog.items, setup.instructions));
  if (items.empty()) {
    throw server::ApiError(400,
                           fmt::format("{}: needs a message that is no instruction", dialog.field),
                           dialog.field, "invalid_value");
  }
  if (!dialog.format.instructions.empty()) {
    if (!setup.instructions.empty()) setup.instructions += "\n\n";
    setup.instructions += dialog.format.instructions;
  }
  const harmony::Conversation opening = harmony::make_conversation(setup);
  request.prompt = render_truncated(served, dialog, items, request, [&](size_t first) {
    harmony::Conversation chat = opening;
    append_items(items.subspan(first), chat);
    return served.harmony()->render_for_completion(chat,
                                                   harmony::AnalysisPolicy::kDropFinishedTurns);
  });

  HarmonyConstraintSpec::Options constraint_options{.call_required = tools.call_required,
                                                    .final_grammar = dialog.format.grammar};
  const std::set<std::string_view> callable(tools.allowed.begin(), tools.allowed.end());
  for (const auto& tool : tools.declared) {
    if (callable.contains(tool.name))
      constraint_options.functions.push_back({tool.name, tool_arguments_grammar(served, tool)});
  }
  const auto spec = std::make_shared<const HarmonyConstraintSpec>(
      served.harmony(), served.engine().vocabulary(), std::move(constraint_options));
  std::vector<std::unique_ptr<OutputParser>> parsers;
  for (int i = 0; i < request.choices; ++i) {
    request.constraints.push_back(make_harmony_constraint(spec));
    parsers.push_back(make_harmony_parser(served.harmony(), dialog.stops));
  }
  return parsers;
}

std::vector<text::ChatMessage> template_messages(Items items) {
  std::vector<text::ChatMessage> turns;
  std::string instructions;
  const size_t leading = leading_instructions(items, instructions);
  if (!instructions.empty()) turns.push_back({text::ChatMessage::Role::kSystem, instructions});
  for (const ChatItem& item : items.subspan(leading)) {
    switch (item.kind) {
      case Kind::instructions:
        fail(item.field, "is out of turn");
      case Kind::tool_call:
      case Kind::tool_result:
        fail(item.field, "this model's chat format has no tools");
      case Kind::reasoning:
        break;  // of turns that have ended
      case Kind::user:
        turns.push_back({text::ChatMessage::Role::kUser, item.text});
        break;
      case Kind::commentary:
      case Kind::assistant:
        turns.push_back({text::ChatMessage::Role::kAssistant, item.text});
        break;
    }
  }
  return turns;
}

std::vector<std::unique_ptr<OutputParser>> prepare_template_chat(const server::ServedModel& served,
                                                                 const ChatRequest& dialog,
                                                                 engine::Request& request) {
  const text::ChatTemplateSpec& format = *served.chat_template();
  const auto refuse = [&](const char* field, const char* feature) {
    throw server::ApiError(
        400, fmt::format("{}: the chat format {} has no {}", field, format.name, feature), field,
        "unsupported_parameter");
  };
  if (!dialog.tools.declared.empty()) refuse("tools", "tools");
  if (dialog.effort) refuse("reasoning_effort", "levels of reasoning");
  const Items items = dialog.items;
  std::string ignored;
  const size_t leading = leading_instructions(items, ignored);
  request.prompt = render_truncated(
      served, dialog, items.subspan(leading), request, [&](size_t first) -> std::vector<int32_t> {
        std::vector<ChatItem> remaining(items.begin(),
                                        items.begin() + static_cast<int64_t>(leading));
        remaining.insert(remaining.end(), items.begin() + static_cast<int64_t>(leading + first),
                         items.end());
        return served.tokenizer()->encode(format.render(template_messages(remaining)));
      });
  std::vector<std::unique_ptr<OutputParser>> parsers;
  for (int i = 0; i < request.choices; ++i) {
    if (dialog.format.grammar) {
      const auto end =
          format.has_reasoning ? served.tokenizer()->token_to_id("</think>") : std::nullopt;
      request.constraints.push_back(
          make_grammar_constraint(dialog.format.grammar, served.stop_tokens(), end));
    }
    parsers.push_back(make_plain_text_parser(
        served.tokenizer(), {.stops = dialog.stops,
                             .stop_tokens = served.stop_tokens(),
                             .has_reasoning = format.has_reasoning,
                             .starts_in_reasoning = format.prompt_opens_reasoning}));
  }
  return parsers;
}

}  // namespace

void ToolConfig::declare(const json::Node& functions) {
  declared = harmony::functions_from_json(functions);
  for (const auto& tool : declared) allowed.push_back(tool.name);
}

void ToolConfig::disable() {
  declared.clear();
  allowed.clear();
}

void ToolConfig::require(std::vector<std::string> names, const std::string& param) {
  for (const std::string& name : names) {
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
      throw server::ApiError(
          400, fmt::format("{}: there is no tool '{}'", param, escape_for_terminal(name)), param,
          "invalid_value");
    }
  }
  allowed = std::move(names);
  require_any(param);
}

void ToolConfig::require_any(const std::string& param) {
  if (allowed.empty()) {
    throw server::ApiError(400, fmt::format("{}: demands a call, but there are no tools", param),
                           param, "invalid_value");
  }
  call_required = true;
}

std::vector<std::unique_ptr<OutputParser>> prepare_chat(const server::ServedModel& served,
                                                        const ChatRequest& dialog,
                                                        engine::Request& request) {
  if (!served.harmony() && !served.chat_template()) {
    throw server::ApiError(400, "this model has no chat format; use /v1/completions", "model",
                           "unsupported_parameter");
  }
  request.stop_tokens = served.stop_tokens();
  return served.harmony() ? prepare_harmony(served, dialog, request)
                          : prepare_template_chat(served, dialog, request);
}

}  // namespace mxgpt::chat
