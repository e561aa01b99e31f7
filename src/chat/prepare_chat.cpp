#include "chat/prepare_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "chat/constraints/grammar_constraint.h"
#include "chat/constraints/harmony_constraint.h"
#include "chat/request_error.h"
#include "chat/response_format.h"
#include "text/chat/harmony/conversation_builder.h"

namespace mxgpt::chat {

namespace {

using Kind = ChatItem::Kind;
using harmony::Message;
using harmony::Role;
using Items = std::span<const ChatItem>;

/// Joins the leading instruction items into `out` and returns their number.
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

/// Appends a run of calls, with the reasoning between them, each call followed by its result.
/// Returns the index of the item after the run.
size_t append_tool_calls(Items items, size_t first, harmony::Conversation& chat) {
  size_t middle = first;
  while (middle < items.size() &&
         (items[middle].kind == Kind::tool_call || items[middle].kind == Kind::reasoning))
    ++middle;
  size_t end = middle;
  std::map<std::string_view, size_t> results;  // item index by call id
  for (; end < items.size() && items[end].kind == Kind::tool_result; ++end) {
    if (!results.emplace(items[end].id, end).second)
      throw RequestError(items[end].field, "is a second result of the same call");
  }
  for (size_t i = first; i < middle; ++i) {
    const ChatItem& item = items[i];
    if (item.kind == Kind::reasoning) {
      chat.messages.push_back(assistant_message(item.text, "analysis"));
      continue;
    }
    const auto result = results.find(item.id);
    if (result == results.end())
      throw RequestError(item.field, fmt::format("no result of the call '{}' follows",
                                                 escape_for_terminal(item.id)));
    Message called = assistant_message(item.text, "commentary");
    called.recipient = fmt::format("functions.{}", item.name);
    called.content_type = "<|constrain|>json";
    chat.messages.push_back(called);
    chat.messages.push_back(harmony::tool_result(called, items[result->second].text));
    results.erase(result);
  }
  if (!results.empty()) {
    const auto& [id, index] = *results.begin();
    throw RequestError(items[index].field, fmt::format("no call '{}' precedes this result",
                                                       escape_for_terminal(std::string(id))));
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

/// Indices at which a conversation may be cut: the questions that start turns.
std::vector<size_t> turn_starts(Items items) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < items.size(); ++i)
    if (items[i].kind == Kind::user && (i == 0 || items[i - 1].kind != Kind::user))
      starts.push_back(i);
  return starts;
}

/// `render(i)` returns the prompt without the items before index i.
template <typename Render>
std::vector<int32_t> render_truncated(const ChatRequest& request, int64_t context, Items items,
                                      Render render) {
  std::vector<int32_t> prompt = render(0);
  if (!request.truncate) return prompt;
  const int64_t reserved_tokens = std::min(request.max_tokens.value_or(context / 4), context / 2);
  const auto fits = [&] {
    return static_cast<int64_t>(prompt.size()) + reserved_tokens <= context;
  };
  if (fits()) return prompt;
  const std::vector<size_t> starts = turn_starts(items);
  // The first turn from which the conversation fits; if there is none, the last turn.
  size_t low = 0, high = starts.empty() ? 0 : starts.size() - 1;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    prompt = render(starts[middle]);
    (fits() ? high : low) = fits() ? middle : middle + 1;
  }
  return starts.empty() ? prompt : render(starts[low]);
}

void prepare_harmony(const ChatModel& model, const ChatRequest& request, int64_t context,
                     PreparedChat& out) {
  const ToolConfig& tools = request.tools;
  harmony::ConversationOptions options{.date = today(), .functions = tools.declared};
  if (request.effort) options.reasoning_effort = *request.effort;
  const Items items =
      Items(request.items).subspan(leading_instructions(request.items, options.instructions));
  if (items.empty()) throw RequestError(request.field, "needs a message other than instructions");
  if (!request.format.instructions.empty()) {
    if (!options.instructions.empty()) options.instructions += "\n\n";
    options.instructions += request.format.instructions;
  }
  const harmony::Conversation opening = harmony::make_conversation(options);
  out.request.prompt = render_truncated(request, context, items, [&](size_t first) {
    harmony::Conversation chat = opening;
    append_items(items.subspan(first), chat);
    return model.harmony()->render_for_completion(chat,
                                                  harmony::AnalysisPolicy::kDropFinishedTurns);
  });

  HarmonyConstraintSpec::Options constraint{.call_required = tools.call_required,
                                            .final_grammar = request.format.grammar};
  const std::set<std::string_view> allowed(tools.allowed.begin(), tools.allowed.end());
  for (const auto& tool : tools.declared) {
    if (allowed.contains(tool.name))
      constraint.functions.push_back({tool.name, tool_arguments_grammar(model.grammars(), tool)});
  }
  const auto spec = std::make_shared<const HarmonyConstraintSpec>(
      model.harmony(), model.vocabulary(), std::move(constraint));
  for (int i = 0; i < request.choices; ++i) {
    out.request.constraints.push_back(make_harmony_constraint(spec));
    out.parsers.push_back(make_harmony_parser(model.harmony(), request.stops));
  }
}

std::vector<text::ChatMessage> template_messages(Items items) {
  std::vector<text::ChatMessage> messages;
  std::string instructions;
  const size_t leading = leading_instructions(items, instructions);
  // An empty system message is not the same as none: it replaces the template's default.
  if (leading > 0) messages.push_back({text::ChatMessage::Role::kSystem, instructions});
  for (const ChatItem& item : items.subspan(leading)) {
    switch (item.kind) {
      case Kind::instructions:
        throw RequestError(item.field,
                           "a system message is only allowed at the start of the conversation");
      case Kind::tool_call:
      case Kind::tool_result:
        throw RequestError(item.field, "this model's chat format has no tools");
      case Kind::reasoning:
        break;  // templates drop it
      case Kind::user:
        messages.push_back({text::ChatMessage::Role::kUser, item.text});
        break;
      case Kind::commentary:
      case Kind::assistant:
        messages.push_back({text::ChatMessage::Role::kAssistant, item.text});
        break;
    }
  }
  return messages;
}

void prepare_template_chat(const ChatModel& model, const ChatRequest& request, int64_t context,
                           PreparedChat& out) {
  const text::ChatTemplateSpec& spec = *model.chat_template();
  const Items items = request.items;
  std::string ignored;
  const size_t leading = leading_instructions(items, ignored);
  out.request.prompt = render_truncated(
      request, context, items.subspan(leading), [&](size_t first) -> std::vector<int32_t> {
        std::vector<ChatItem> remaining(items.begin(),
                                        items.begin() + static_cast<int64_t>(leading));
        remaining.insert(remaining.end(), items.begin() + static_cast<int64_t>(leading + first),
                         items.end());
        return model.tokenizer()->encode(
            spec.render(template_messages(remaining), request.reasoning));
      });
  for (int i = 0; i < request.choices; ++i) {
    if (request.format.grammar) {
      const auto reasoning_end = spec.has_reasoning && request.reasoning
                                     ? model.tokenizer()->token_to_id("</think>")
                                     : std::nullopt;
      out.request.constraints.push_back(
          make_grammar_constraint(request.format.grammar, model.stop_tokens(), reasoning_end));
    }
    out.parsers.push_back(make_plain_text_parser(
        model.tokenizer(),
        {.stops = request.stops,
         .stop_tokens = model.stop_tokens(),
         .has_reasoning = spec.has_reasoning,
         .starts_in_reasoning = spec.prompt_opens_reasoning && request.reasoning}));
  }
}

}  // namespace

void check_features(const ChatModel& model, const ChatRequest& request) {
  if (const auto fault = model.chat_format_fault()) throw Error(model.name(), *fault);
  const auto refuse = [&](const char* field, const std::string& fault) {
    throw RequestError(field, fault, "unsupported_parameter");
  };
  if (model.harmony()) {
    if (!request.reasoning) refuse("reasoning", "models that use Harmony always reason");
    return;
  }
  const text::ChatTemplateSpec& spec = *model.chat_template();
  const auto lacks = [&](const char* feature) {
    return fmt::format("the chat format {} has no {}", spec.name, feature);
  };
  if (!request.tools.declared.empty()) refuse("tools", lacks("tools"));
  if (request.effort) refuse("reasoning_effort", lacks("levels of reasoning"));
  if (!request.reasoning && spec.no_thinking_suffix.empty())
    refuse("reasoning", lacks("switch for reasoning"));
}

PreparedChat prepare_chat(const ChatModel& model, const ChatRequest& request, int64_t context) {
  PreparedChat out;
  out.request.max_tokens = request.max_tokens;
  out.request.sampling = request.sampling;
  out.request.choices = request.choices;
  out.request.stop_tokens = model.stop_tokens();
  out.request.top_logprobs = request.top_logprobs;
  check_features(model, request);
  model.harmony() ? prepare_harmony(model, request, context, out)
                  : prepare_template_chat(model, request, context, out);
  return out;
}

}  // namespace mxgpt::chat
