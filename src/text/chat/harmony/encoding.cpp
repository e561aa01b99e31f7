#include "text/chat/harmony/encoding.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/escape.h"
#include "text/chat/harmony/header.h"
#include "text/chat/harmony/tool_schema.h"

namespace mxgpt::harmony {
namespace {

constexpr std::string_view kFinal = "final";
constexpr std::string_view kAnalysis = "analysis";

text::TokenId find_control_token(const text::Tokenizer& tokenizer, std::string_view name) {
  const auto id = tokenizer.token_to_id(name);
  if (!id) {
    throw Error("tokenizer", fmt::format("has no token '{}'", name),
                "Harmony chats need a gpt-oss tokenizer");
  }
  // A token that is not special would also be matched in text from users and tools.
  if (!tokenizer.is_special(*id)) {
    throw Error("tokenizer", fmt::format("does not mark the control token '{}' as special", name),
                "use an unmodified gpt-oss tokenizer");
  }
  return *id;
}

bool has_function_tools(const Conversation& conversation) {
  for (const Message& message : conversation.messages) {
    for (const Content& content : message.contents) {
      const auto* developer = std::get_if<DeveloperContent>(&content);
      if (!developer) continue;
      const auto functions = developer->tools.find("functions");
      if (functions != developer->tools.end() && !functions->second.tools.empty()) return true;
    }
  }
  return false;
}

// Reasoning before this message index is dropped; 0 keeps all.
size_t analysis_cutoff(const std::vector<Message>& messages, AnalysisPolicy analysis) {
  const auto is_final = [](const Message& m) { return m.channel == kFinal; };
  const auto is_assistant = [](const Message& m) { return m.role == Role::kAssistant; };
  if (analysis == AnalysisPolicy::kKeep) return 0;
  if (analysis == AnalysisPolicy::kDropFinishedTurns) {
    const auto last = std::find_if(messages.rbegin(), messages.rend(), is_final);
    return static_cast<size_t>(messages.rend() - last);
  }
  const auto last = std::find_if(messages.rbegin(), messages.rend(), is_assistant);
  if (last == messages.rend() || !is_final(*last)) return 0;
  return static_cast<size_t>(std::find_if(messages.begin(), messages.end(), is_final) -
                             messages.begin());
}

std::string joined(const std::vector<std::string>& sections) {
  return fmt::format("{}", fmt::join(sections, "\n\n"));
}

std::string system_text(const SystemContent& system, bool has_functions) {
  std::vector<std::string> top;
  if (system.model_identity) top.push_back(*system.model_identity);
  if (system.knowledge_cutoff) top.push_back("Knowledge cutoff: " + *system.knowledge_cutoff);
  if (system.conversation_start_date)
    top.push_back("Current date: " + *system.conversation_start_date);

  std::vector<std::string> sections;
  if (!top.empty()) sections.push_back(fmt::format("{}", fmt::join(top, "\n")));
  if (system.reasoning_effort) {
    sections.push_back(fmt::format("Reasoning: {}", effort_name(*system.reasoning_effort)));
  }
  if (!system.tools.empty()) sections.push_back(render_tools(system.tools));
  if (system.channel_config && !system.channel_config->valid_channels.empty()) {
    std::string channels = fmt::format("# Valid channels: {}.",
                                       fmt::join(system.channel_config->valid_channels, ", "));
    if (system.channel_config->channel_required)
      channels += " Channel must be included for every message.";
    if (has_functions) {
      channels += "\nCalls to these tools must go to the commentary channel: 'functions'.";
    }
    sections.push_back(std::move(channels));
  }
  return joined(sections);
}

std::string developer_text(const DeveloperContent& developer) {
  std::vector<std::string> sections;
  if (developer.instructions) sections.push_back("# Instructions\n\n" + *developer.instructions);
  if (!developer.tools.empty()) sections.push_back(render_tools(developer.tools));
  return joined(sections);
}

std::string content_text(const Content& content, Role role, bool has_functions,
                         const std::string& where) {
  if (const auto* text = std::get_if<std::string>(&content)) return *text;
  const bool is_system = std::holds_alternative<SystemContent>(content);
  const Role required_role = is_system ? Role::kSystem : Role::kDeveloper;
  if (role != required_role) {
    throw Error(where,
                fmt::format("{0} content in a message with role {1}", role_name(required_role),
                            role_name(role)),
                fmt::format("give the message the role {}", role_name(required_role)));
  }
  return is_system ? system_text(std::get<SystemContent>(content), has_functions)
                   : developer_text(std::get<DeveloperContent>(content));
}

void check_field(bool valid, std::string_view value, const std::string& where,
                 std::string_view field) {
  if (valid) return;
  throw Error(fmt::format("{}.{}", where, field),
              fmt::format("'{}' is not allowed in a message header", escape_for_terminal(value)),
              "use a word without whitespace, control characters, '<|' or a leading 'to='");
}

}  // namespace

HarmonyEncoding::HarmonyEncoding(std::shared_ptr<const text::Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)),
      control_tokens_{.start = find_control_token(*tokenizer_, "<|start|>"),
                      .message = find_control_token(*tokenizer_, "<|message|>"),
                      .end = find_control_token(*tokenizer_, "<|end|>"),
                      .return_ = find_control_token(*tokenizer_, "<|return|>"),
                      .call = find_control_token(*tokenizer_, "<|call|>"),
                      .channel = find_control_token(*tokenizer_, "<|channel|>"),
                      .constrain = find_control_token(*tokenizer_, kConstrainMarker)} {}

void HarmonyEncoding::append_text(std::string_view text, std::vector<text::TokenId>& out) const {
  const auto ids = tokenizer_->encode(text, {.add_special_tokens = false, .parse_special = false});
  out.insert(out.end(), ids.begin(), ids.end());
}

// Encodes each header field and content separately, as openai-harmony does: no token spans two of
// them.
void HarmonyEncoding::render_message(const Message& message, bool has_functions,
                                     const std::string& where,
                                     std::vector<text::TokenId>& out) const {
  std::optional<std::string> recipient = message.recipient;
  std::optional<std::string> content_type = message.content_type;
  // Undoes the parser's reading of a content type as a recipient (see Message::is_tool_call).
  if (recipient && recipient->starts_with(kConstrainMarker) && !content_type)
    std::swap(recipient, content_type);
  const bool is_tool = message.role == Role::kTool;
  if (message.name) {
    check_field(is_tool ? is_tool_name(*message.name) : is_header_word(*message.name),
                *message.name, where, "name");
  }
  if (recipient) check_field(is_header_word(*recipient), *recipient, where, "recipient");
  if (message.channel)
    check_field(is_header_word(*message.channel), *message.channel, where, "channel");
  if (content_type)
    check_field(is_content_type(*content_type), *content_type, where, "content_type");

  out.push_back(control_tokens_.start);
  if (is_tool) {
    if (!message.name)
      throw Error(where + ".name", "is missing", "give a tool message its function's name");
    append_text(*message.name, out);
  } else {
    append_text(role_name(message.role), out);
    if (message.name) append_text(":" + *message.name, out);
  }
  if (recipient && *recipient != "all") append_text(" to=" + *recipient, out);
  if (message.channel) {
    out.push_back(control_tokens_.channel);
    append_text(*message.channel, out);
  }
  if (content_type && content_type->starts_with(kConstrainMarker)) {
    append_text(" ", out);
    out.push_back(control_tokens_.constrain);
    append_text(std::string_view(*content_type).substr(kConstrainMarker.size()), out);
  } else if (content_type) {
    append_text(" " + *content_type, out);
  }
  out.push_back(control_tokens_.message);
  for (size_t i = 0; i < message.contents.size(); ++i) {
    append_text(content_text(message.contents[i], message.role, has_functions,
                             fmt::format("{}.content[{}]", where, i)),
                out);
  }
  out.push_back(message.role == Role::kAssistant && recipient ? control_tokens_.call
                                                              : control_tokens_.end);
}

std::vector<text::TokenId> HarmonyEncoding::render(const Conversation& conversation,
                                                   AnalysisPolicy analysis) const {
  const auto& messages = conversation.messages;
  const bool has_functions = has_function_tools(conversation);
  const size_t cutoff = analysis_cutoff(messages, analysis);
  std::vector<text::TokenId> out;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i < cutoff && messages[i].channel == kAnalysis) continue;
    render_message(messages[i], has_functions, fmt::format("messages[{}]", i), out);
  }
  return out;
}

std::vector<text::TokenId> HarmonyEncoding::render_for_completion(const Conversation& conversation,
                                                                  AnalysisPolicy analysis) const {
  std::vector<text::TokenId> out = render(conversation, analysis);
  out.push_back(control_tokens_.start);
  append_text(role_name(Role::kAssistant), out);
  return out;
}

std::vector<text::TokenId> HarmonyEncoding::render_for_training(const Conversation& conversation,
                                                                AnalysisPolicy analysis) const {
  std::vector<text::TokenId> out = render(conversation, analysis);
  if (!conversation.messages.empty()) {
    const Message& last = conversation.messages.back();
    if (last.role == Role::kAssistant && last.channel == kFinal)
      out.back() = control_tokens_.return_;
  }
  return out;
}

}  // namespace mxgpt::harmony
