#include "text/chat/known_chat_templates.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/escape.h"
#include "text/unicode.h"

namespace mxgpt::text {

namespace {

using Role = ChatMessage::Role;
using SystemPlacement = ChatTemplateSpec::SystemPlacement;

/// Queries on the text of a template, without executing it. Empty if a format is selected by name.
class TemplateText {
 public:
  explicit TemplateText(std::string_view text) : text_(text) {}

  bool empty() const { return text_.empty(); }
  bool has(std::string_view part) const { return text_.find(part) != text_.npos; }
  bool has_all(std::span<const std::string_view> parts) const {
    return std::all_of(parts.begin(), parts.end(), [&](std::string_view p) { return has(p); });
  }
  bool has_any(std::span<const std::string_view> parts) const {
    return std::any_of(parts.begin(), parts.end(), [&](std::string_view p) { return has(p); });
  }

  /// The text between `opening` and `closing`, within one string literal that begins with `opening`
  /// or within the text between two tags; empty if not found. Newlines may be written as \n.
  std::string between(std::string_view opening, std::string_view closing) const {
    const std::string_view line = opening.substr(0, opening.find('\n'));
    for (size_t at = text_.find(line); at != text_.npos; at = text_.find(line, at)) {
      const char quote = at > 0 && is_quote(text_[at - 1]) ? text_[at - 1] : '\0';
      const std::string literal = read_literal(at, quote);
      const size_t end = literal.find(closing, opening.size());
      if (literal.starts_with(opening) && end != literal.npos && end > opening.size())
        return literal.substr(opening.size(), end - opening.size());
    }
    return {};
  }

  /// The first string literal after `mark`; empty if there is none.
  std::string literal_after(std::string_view mark) const {
    const size_t at = text_.find(mark);
    return at == text_.npos ? std::string()
                            : literal_at(text_.find_first_of("'\"", at + mark.size()));
  }

  /// The first string literal that contains `part`, or the text between two tags; empty if there is
  /// none.
  std::string literal_containing(std::string_view part) const {
    const size_t at = text_.find(part);
    if (at == text_.npos) return {};
    const size_t before = text_.find_last_of("'\"}", at);
    if (before != text_.npos && is_quote(text_[before])) return literal_at(before);
    size_t begin = before == text_.npos ? 0 : before + 1;
    return read_literal(begin, '\0');
  }

  /// Whether a newline follows the last `part`, in its literal or in one concatenated to it.
  bool newline_follows(std::string_view part) const {
    const size_t at = text_.rfind(part);
    if (at == text_.npos) return false;
    const size_t next = text_.find_first_not_of("'\"+ ", at + part.size());
    return next != text_.npos && (text_[next] == '\n' || text_.substr(next).starts_with("\\n"));
  }

 private:
  static bool is_quote(char c) { return c == '\'' || c == '"'; }

  /// The literal whose opening quote is at `quote`; empty for npos.
  std::string literal_at(size_t quote) const {
    if (quote == text_.npos) return {};
    size_t at = quote + 1;
    return read_literal(at, text_[quote]);
  }

  /// Reads a literal from `at` up to its quote, or text outside of literals (no quote) up to the
  /// next tag. Advances `at` to the end.
  std::string read_literal(size_t& at, char quote) const {
    const auto ends = [&](size_t i) {
      if (quote) return text_[i] == quote;
      return text_[i] == '{' && i + 1 < text_.size() &&
             std::string_view("{%#").find(text_[i + 1]) != std::string_view::npos;
    };
    std::string out;
    for (; at < text_.size() && !ends(at); ++at) {
      if (quote && text_[at] == '\\' && at + 1 < text_.size()) {
        const char escaped = text_[++at];
        out += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
      } else {
        out += text_[at];
      }
    }
    return out;
  }

  std::string_view text_;
};

/// Inputs of a format besides the template text.
struct TemplateContext {
  std::string_view bos;    ///< text of the tokenizer's BOS token
  std::string_view today;  ///< "2026-11-23"
};

/// The BOS text if the template prints it; without a template, if the format does so by default.
std::string bos_text(const TemplateText& text, const TemplateContext& context, bool by_default) {
  return std::string((text.empty() ? by_default : text.has("bos_token")) ? context.bos : "");
}

ChatTemplateSpec chatml(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f;
  f.bos = bos_text(text, context, false);
  f.system_turn = {"<|im_start|>system\n", "<|im_end|>\n"};
  f.user_turn = {"<|im_start|>user\n", "<|im_end|>\n"};
  f.assistant_turn = {"<|im_start|>assistant\n", "<|im_end|>\n"};
  f.default_system = text.between(f.system_turn.open, "<|im_end|>");
  f.generation_prompt = f.assistant_turn.open;
  f.end_of_turn = "<|im_end|>";
  f.control_tokens = {"<|im_start|>", "<|im_end|>"};
  return f;
}

ChatTemplateSpec qwen3(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f = chatml(text, context);
  f.has_reasoning = true;
  // Templates of models that always reason (QwQ, …-Thinking) open the reasoning block themselves.
  f.prompt_opens_reasoning = text.has("<|im_start|>assistant\\n<think>\\n'");
  if (f.prompt_opens_reasoning) {
    f.generation_prompt += "<think>\n";
  } else if (text.empty() || text.has("enable_thinking")) {
    f.no_thinking_suffix = "<think>\n\n</think>\n\n";
  }
  return f;
}

/// Converts "2026-11-23" to "23 Nov 2026".
std::string english_date(std::string_view iso) {
  static constexpr std::string_view kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const int month = iso.size() == 10 ? (iso[5] - '0') * 10 + (iso[6] - '0') : 0;
  MXGPT_CHECK(month >= 1 && month <= 12, "'{}' is not an ISO date", iso);
  return fmt::format("{} {} {}", iso.substr(8), kMonths[month - 1], iso.substr(0, 4));
}

constexpr std::string_view kLlamaCutoff = "Cutting Knowledge Date: December 2023";

ChatTemplateSpec llama3(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f;
  f.bos = bos_text(text, context, true);
  const auto turn = [](std::string_view role) {
    return ChatTemplateSpec::Turn{fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n", role),
                                  "<|eot_id|>", true};
  };
  f.system_turn = turn("system");
  f.user_turn = turn("user");
  f.assistant_turn = turn("assistant");
  if (text.has(kLlamaCutoff)) {  // since Llama 3.1, whose template has a fixed date
    const std::string date = text.has("strftime_now") ? english_date(context.today)
                                                      : text.literal_after("set date_string =");
    f.system_preamble = fmt::format("{}\nToday Date: {}\n\n", kLlamaCutoff, date);
  }
  f.generation_prompt = f.assistant_turn.open;
  f.end_of_turn = "<|eot_id|>";
  f.control_tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
  return f;
}

ChatTemplateSpec gemma(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f;
  f.bos = bos_text(text, context, true);
  f.user_turn = {"<start_of_turn>user\n", "<end_of_turn>\n", true};
  f.assistant_turn = {"<start_of_turn>model\n", "<end_of_turn>\n", true};
  f.system_placement = SystemPlacement::kInFirstUser;
  f.generation_prompt = f.assistant_turn.open;
  f.end_of_turn = "<end_of_turn>";
  f.control_tokens = {"<start_of_turn>", "<end_of_turn>"};
  return f;
}

ChatTemplateSpec phi3(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f;
  f.bos = bos_text(text, context, false);
  // Phi-4-mini shares the architecture but has no line breaks.
  const bool has_newlines = text.empty() || text.newline_follows("<|assistant|>");
  const std::string line = has_newlines ? "\n" : "";
  const auto turn = [&](std::string_view role) {
    return ChatTemplateSpec::Turn{fmt::format("<|{}|>{}", role, line), "<|end|>" + line};
  };
  f.system_turn = turn("system");
  f.user_turn = turn("user");
  f.assistant_turn = turn("assistant");
  f.generation_prompt = f.assistant_turn.open;
  f.end_of_turn = "<|end|>";
  f.control_tokens = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"};
  return f;
}

/// Revisions differ in whitespace around the markers and in the position of the system message.
ChatTemplateSpec mistral(const TemplateText& text, const TemplateContext& context) {
  ChatTemplateSpec f;
  f.bos = bos_text(text, context, true);
  f.user_turn = {"[INST] ", "[/INST]"};
  f.assistant_turn = {" ", "</s>"};
  f.system_placement = SystemPlacement::kInFirstUser;
  f.end_of_turn = "</s>";
  f.control_tokens = {"</s>"};
  if (text.empty()) return f;
  f.user_turn = {text.literal_containing("[INST]"), text.literal_containing("[/INST]")};
  if (!text.has("\" \" +") && !text.has("' ' +")) f.assistant_turn.open.clear();
  f.assistant_turn.trim = text.has("trim");
  if (text.has("loop.last and system_message")) f.system_placement = SystemPlacement::kInLastUser;
  return f;
}

struct KnownTemplate {
  std::string_view name;
  /// Strings that a template of this format must and must not contain: the control tokens of the
  /// format, and constructs that would change the rendered text.
  std::vector<std::string_view> has, lacks;
  ChatTemplateSpec (*make)(const TemplateText& text,
                           const TemplateContext& context);  ///< null: Harmony
};

/// Matched in this order.
const std::vector<KnownTemplate>& known_templates() {
  static const std::vector<KnownTemplate> kFormats = {
      {kHarmonyFormat, {"<|start|>", "<|channel|>", "<|message|>"}, {}, nullptr},
      {"qwen3",
       {"<|im_start|>", "<|im_end|>", "split('</think>')"},
       {"trim", ".strip()", "strftime_now", "<|im_sep|>", "'<think>\\n\\n'"},
       qwen3},
      {"chatml",
       {"<|im_start|>", "<|im_end|>"},
       {"think>", "trim", "strip(", "strftime_now", "<|im_sep|>"},
       chatml},
      {"llama3",
       {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "trim"},
       {"system<|end_header_id|>", "functions", "think>", "image"},
       llama3},
      {"llama3",  // since 3.1
       {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "trim", kLlamaCutoff},
       {"think>", "image"},
       llama3},
      {"gemma", {"<start_of_turn>", "<end_of_turn>", "model", "trim"}, {}, gemma},
      {"phi3", {"<|assistant|>", "<|end|>"}, {"<|start|>", "trim", "system_message"}, phi3},
      {"mistral", {"[INST]", "[/INST]"}, {"<<SYS>>", "[SYSTEM_PROMPT]"}, mistral},
  };
  return kFormats;
}

/// Characters that Python's str.strip() removes.
bool is_python_space(char32_t c) {
  return unicode::is_whitespace(c) || (c >= 0x1c && c <= 0x1f);
}

/// `text` must be valid UTF-8.
std::string_view trimmed(std::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    if (is_python_space(unicode::next(text, i))) continue;
    begin = std::min(begin, at);
    end = i;
  }
  return begin < end ? text.substr(begin, end - begin) : "";
}

/// Removes the reasoning block from a response.
std::string_view strip_reasoning(std::string_view answer) {
  constexpr std::string_view kEnd = "</think>";
  const size_t end = answer.rfind(kEnd);
  if (end == answer.npos) return answer;
  answer.remove_prefix(end + kEnd.size());
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  return answer;
}

std::string_view role_name(Role role) {
  return role == Role::kSystem ? "system" : role == Role::kUser ? "user" : "assistant";
}

void require_alternating_roles(std::span<const ChatMessage> messages) {
  const auto fail = [](size_t i, std::string_view problem) {
    throw Error(fmt::format("messages[{}]", i), std::string(problem),
                "give an optional system message, then alternating user and assistant messages");
  };
  const size_t first = !messages.empty() && messages[0].role == Role::kSystem;
  for (size_t i = first; i < messages.size(); ++i) {
    const Role expected = (i - first) % 2 == 0 ? Role::kUser : Role::kAssistant;
    if (messages[i].role != expected)
      fail(i, fmt::format("has role {}, expected {}", role_name(messages[i].role),
                          role_name(expected)));
  }
  if (messages.empty() || messages.back().role != Role::kUser)
    fail(messages.size(), "is missing: the last message must have role user");
}

}  // namespace

std::vector<TextPart> ChatTemplateSpec::render(std::span<const ChatMessage> messages,
                                               bool thinking) const {
  require_alternating_roles(messages);
  std::vector<TextPart> out;
  const auto add_markup = [&](std::string_view text) {
    if (out.empty() || out.back().literal) out.push_back({});
    out.back().text += text;
  };
  const auto add_content = [&](std::string_view text, bool trim) {
    std::string valid;
    unicode::append_replacing_invalid(valid, text);
    out.push_back({std::string(trim ? trimmed(valid) : valid), true});
  };

  const ChatMessage* system = messages[0].role == Role::kSystem ? &messages[0] : nullptr;
  if (system) messages = messages.subspan(1);
  add_markup(bos);
  if (system_placement == SystemPlacement::kOwnTurn &&
      (system || !system_preamble.empty() || !default_system.empty())) {
    add_markup(system_turn.open + system_preamble);
    system ? add_content(system->content, system_turn.trim) : add_markup(default_system);
    add_markup(system_turn.close);
  }
  const size_t system_index =
      system_placement == SystemPlacement::kInFirstUser ? 0 : messages.size() - 1;
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool by_user = messages[i].role == Role::kUser;
    const Turn& turn = by_user ? user_turn : assistant_turn;
    add_markup(turn.open);
    if (system && system_placement != SystemPlacement::kOwnTurn && i == system_index) {
      add_content(system->content, false);
      add_markup("\n\n");
    }
    add_content(
        has_reasoning && !by_user ? strip_reasoning(messages[i].content) : messages[i].content,
        turn.trim);
    add_markup(turn.close);
  }
  add_markup(generation_prompt);
  if (!thinking) add_markup(no_thinking_suffix);
  return out;
}

TokenId ChatTemplateSpec::end_of_turn_id(const Tokenizer& tokenizer) const {
  for (const std::string& token : control_tokens) {
    const auto id = tokenizer.token_to_id(token);
    if (id && tokenizer.is_special(*id)) continue;
    throw Error("tokenizer",
                id ? fmt::format("does not mark '{}' as special, so users could forge it", token)
                   : fmt::format("has no token '{}'", token),
                fmt::format("the chat format {} needs a model that was trained with it", name));
  }
  return *tokenizer.token_to_id(end_of_turn);
}

std::vector<std::string> chat_format_names() {
  std::vector<std::string> names;
  for (const KnownTemplate& format : known_templates()) {
    if (names.empty() || names.back() != format.name) names.emplace_back(format.name);
  }
  return names;
}

std::optional<std::string_view> detect_chat_format(std::string_view text) {
  const TemplateText chat_template(text);
  for (const KnownTemplate& format : known_templates()) {
    if (chat_template.has_all(format.has) && !chat_template.has_any(format.lacks))
      return format.name;
  }
  return std::nullopt;
}

std::optional<std::string_view> detect_chat_format(
    const ChatTemplate& chat_template, const std::function<bool(std::string_view)>& has_token) {
  if (!chat_template.text.empty()) return detect_chat_format(chat_template.text);
  const std::vector<std::string_view>& harmony = known_templates().front().has;
  const bool matched = std::all_of(harmony.begin(), harmony.end(), has_token);
  return matched ? std::optional(kHarmonyFormat) : std::nullopt;
}

ChatTemplateSpec chat_template_spec(std::string_view name, const ChatTemplate& chat_template,
                                    std::string_view today) {
  const auto& formats = known_templates();
  const auto known = std::find_if(formats.begin(), formats.end(),
                                  [&](const KnownTemplate& format) { return format.name == name; });
  MXGPT_CHECK(known != formats.end() && known->make, "'{}' is not a chat format with turn markers",
              name);
  const bool is_own = detect_chat_format(chat_template.text) == name;
  ChatTemplateSpec format =
      known->make(TemplateText(is_own ? std::string_view(chat_template.text) : ""),
                  {.bos = chat_template.bos, .today = today});
  format.name = known->name;
  return format;
}

std::string control_tokens_in(std::string_view chat_template) {
  constexpr size_t kShown = 6, kLongest = 40;
  std::vector<std::string> found;
  for (size_t at = chat_template.find('<'); at != chat_template.npos && found.size() < kShown;
       at = chat_template.find('<', at + 1)) {
    const std::string_view rest = chat_template.substr(at, kLongest);
    const size_t end = rest.find_first_of("> \n'\"{", 1);
    if (end == rest.npos || rest[end] != '>') continue;
    std::string token = escape_for_terminal(rest.substr(0, end + 1));
    if (std::find(found.begin(), found.end(), token) == found.end())
      found.push_back(std::move(token));
  }
  return fmt::format("{}", fmt::join(found, ", "));
}

}  // namespace mxgpt::text
