#include "server/dialog.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/printable.h"
#include "server/api_error.h"
#include "server/harmony_guard.h"
#include "text/harmony/chat.h"

namespace mxgpt::server {

namespace {

using Kind = DialogItem::Kind;
using harmony::Message;
using harmony::Role;
using Items = std::span<const DialogItem>;

[[noreturn]] void fail(const std::string& field, const std::string& what) {
  throw ApiError(400, fmt::format("{}: {}", field, what), field, "invalid_value");
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

Message assistant(const std::string& text, const char* channel) {
  Message message = harmony::make_message(Role::kAssistant, text);
  message.channel = channel;
  return message;
}

/// Calls with the reasoning among them, then their results: each call with the result that answers
/// it. The number of the first item behind.
size_t add_calls(Items items, size_t begin, harmony::Conversation& chat) {
  size_t middle = begin;
  while (middle < items.size() &&
         (items[middle].kind == Kind::call || items[middle].kind == Kind::reasoning))
    ++middle;
  size_t end = middle;
  std::map<std::string_view, size_t> results;  // by call, the number of the item
  for (; end < items.size() && items[end].kind == Kind::result; ++end) {
    if (!results.emplace(items[end].id, end).second)
      fail(items[end].field, "answers a call a second time");
  }
  for (size_t i = begin; i < middle; ++i) {
    const DialogItem& item = items[i];
    if (item.kind == Kind::reasoning) {
      chat.messages.push_back(assistant(item.text, "analysis"));
      continue;
    }
    const auto result = results.find(item.id);
    if (result == results.end())
      fail(item.field, fmt::format("nothing after it answers the call '{}'", printable(item.id)));
    Message called = assistant(item.text, "commentary");
    called.recipient = fmt::format("functions.{}", item.name);
    called.content_type = "<|constrain|>json";
    chat.messages.push_back(called);
    chat.messages.push_back(harmony::tool_result(called, items[result->second].text));
    results.erase(result);
  }
  if (!results.empty()) {
    const auto& [id, number] = *results.begin();
    fail(items[number].field, fmt::format("'{}' is no call before it", printable(id)));
  }
  return end;
}

void add_items(Items items, harmony::Conversation& chat) {
  for (size_t i = 0; i < items.size();) {
    const DialogItem& item = items[i];
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
        chat.messages.push_back(assistant(item.text, "analysis"));
        break;
      case Kind::preamble:
        chat.messages.push_back(assistant(item.text, "commentary"));
        break;
      case Kind::answer:
        chat.messages.push_back(assistant(item.text, "final"));
        break;
      case Kind::call:
      case Kind::result:
        i = add_calls(items, i, chat);
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
std::vector<int32_t> render_within(const Served& served, const Dialog& dialog, Items items,
                                   const Request& request, Render render) {
  std::vector<int32_t> prompt = render(0);
  if (!dialog.truncate) return prompt;
  const int64_t context = served.engine().context();
  const int64_t room = std::min(request.max_tokens.value_or(context / 4), context / 2);
  const auto fits = [&] { return static_cast<int64_t>(prompt.size()) + room <= context; };
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

std::vector<std::unique_ptr<ChoiceReader>> begin_harmony(const Served& served, const Dialog& dialog,
                                                         Request& request) {
  const DialogTools& tools = dialog.tools;
  harmony::ChatSetup setup{.date = today(), .functions = tools.described};
  if (dialog.effort) setup.effort = *dialog.effort;
  const Items items =
      Items(dialog.items).subspan(leading_instructions(dialog.items, setup.instructions));
  if (items.empty()) {
    throw ApiError(400, fmt::format("{}: needs a message that is no instruction", dialog.field),
                   dialog.field, "invalid_value");
  }
  if (!dialog.format.instructions.empty()) {
    if (!setup.instructions.empty()) setup.instructions += "\n\n";
    setup.instructions += dialog.format.instructions;
  }
  const harmony::Conversation opening = harmony::begin_chat(setup);
  request.prompt = render_within(served, dialog, items, request, [&](size_t first) {
    harmony::Conversation chat = opening;
    add_items(items.subspan(first), chat);
    return served.harmony()->render_for_completion(chat, harmony::Analysis::kDropFinishedTurns);
  });

  HarmonyRules::Options options{.must_call = tools.must_call, .final_text = dialog.format.grammar};
  const std::set<std::string_view> callable(tools.callable.begin(), tools.callable.end());
  for (const auto& tool : tools.described) {
    if (callable.contains(tool.name))
      options.functions.push_back({tool.name, arguments_grammar(served, tool)});
  }
  const auto rules = std::make_shared<const HarmonyRules>(
      served.harmony(), served.engine().vocabulary(), std::move(options));
  std::vector<std::unique_ptr<ChoiceReader>> readers;
  for (int i = 0; i < request.choices; ++i) {
    request.constraints.push_back(guard_harmony(rules));
    readers.push_back(read_harmony(served.harmony(), dialog.stops));
  }
  return readers;
}

std::vector<ChatMessage> turns_of(Items items) {
  std::vector<ChatMessage> turns;
  std::string instructions;
  const size_t leading = leading_instructions(items, instructions);
  if (!instructions.empty()) turns.push_back({ChatMessage::Role::kSystem, instructions});
  for (const DialogItem& item : items.subspan(leading)) {
    switch (item.kind) {
      case Kind::instructions:
        fail(item.field, "is out of turn");
      case Kind::call:
      case Kind::result:
        fail(item.field, "this model's chat format has no tools");
      case Kind::reasoning:
        break;  // of turns that have ended
      case Kind::user:
        turns.push_back({ChatMessage::Role::kUser, item.text});
        break;
      case Kind::preamble:
      case Kind::answer:
        turns.push_back({ChatMessage::Role::kAssistant, item.text});
        break;
    }
  }
  return turns;
}

std::vector<std::unique_ptr<ChoiceReader>> begin_turns(const Served& served, const Dialog& dialog,
                                                       Request& request) {
  const TurnFormat& format = *served.turns();
  const auto refuse = [&](const char* field, const char* what) {
    throw ApiError(400, fmt::format("{}: the chat format {} has no {}", field, format.name, what),
                   field, "unsupported_parameter");
  };
  if (!dialog.tools.described.empty()) refuse("tools", "tools");
  if (dialog.effort) refuse("reasoning_effort", "levels of reasoning");
  const Items items = dialog.items;
  std::string ignored;
  const size_t leading = leading_instructions(items, ignored);
  request.prompt = render_within(
      served, dialog, items.subspan(leading), request, [&](size_t first) -> std::vector<int32_t> {
        std::vector<DialogItem> kept(items.begin(), items.begin() + static_cast<int64_t>(leading));
        kept.insert(kept.end(), items.begin() + static_cast<int64_t>(leading + first), items.end());
        return served.tokenizer()->encode(format.render(turns_of(kept)));
      });
  std::vector<std::unique_ptr<ChoiceReader>> readers;
  for (int i = 0; i < request.choices; ++i) {
    if (dialog.format.grammar) {
      const auto end = format.thinks ? served.tokenizer()->token_to_id("</think>") : std::nullopt;
      request.constraints.push_back(guard_plain(dialog.format.grammar, served.stop_tokens(), end));
    }
    readers.push_back(
        read_plain(served.tokenizer(), {.stops = dialog.stops,
                                        .stop_tokens = served.stop_tokens(),
                                        .thinks = format.thinks,
                                        .opened_thinking = format.prompt_opens_thinking}));
  }
  return readers;
}

}  // namespace

void DialogTools::describe(const json::Node& functions) {
  described = harmony::functions_from_json(functions);
  for (const auto& tool : described) callable.push_back(tool.name);
}

void DialogTools::forbid() {
  described.clear();
  callable.clear();
}

void DialogTools::demand(std::vector<std::string> names, const std::string& param) {
  for (const std::string& name : names) {
    if (std::find(callable.begin(), callable.end(), name) == callable.end()) {
      throw ApiError(400, fmt::format("{}: there is no tool '{}'", param, printable(name)), param,
                     "invalid_value");
    }
  }
  callable = std::move(names);
  demand_any(param);
}

void DialogTools::demand_any(const std::string& param) {
  if (callable.empty()) {
    throw ApiError(400, fmt::format("{}: demands a call, but there are no tools", param), param,
                   "invalid_value");
  }
  must_call = true;
}

std::vector<std::unique_ptr<ChoiceReader>> begin_dialog(const Served& served, const Dialog& dialog,
                                                        Request& request) {
  if (!served.harmony() && !served.turns()) {
    throw ApiError(400, "this model has no chat format; use /v1/completions", "model",
                   "unsupported_parameter");
  }
  request.stop_tokens = served.stop_tokens();
  return served.harmony() ? begin_harmony(served, dialog, request)
                          : begin_turns(served, dialog, request);
}

}  // namespace mxgpt::server
