#include "chat/output_parser.h"

#include <algorithm>
#include <utility>

namespace mxgpt::chat {

namespace {

using Kind = OutputDelta::Kind;

void append(std::vector<OutputDelta>& out, Kind kind, std::string text) {
  if (!text.empty()) out.push_back({.kind = kind, .text = std::move(text)});
}

class HarmonyOutputParser : public OutputParser {
 public:
  HarmonyOutputParser(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                      std::vector<std::string> stops)
      : control_(encoding->control_tokens()),
        parser_(std::move(encoding)),
        stops_(std::move(stops)) {}

  bool push(text::TokenId token, std::vector<OutputDelta>& out) override {
    const bool was_open = parser_.open_message() != nullptr;
    const size_t before = parser_.messages().size();
    const std::string text = parser_.feed(token);
    emit_text(before, text, out);
    if (parser_.open_message()) {
      header_started_ = false;
    } else if (token == control_.start || token == control_.channel ||
               token == control_.constrain) {
      header_started_ = true;
    }
    current_kind_.reset();
    if (was_open && parser_.open_message() && parser_.messages().size() == before)
      current_kind_ = kind_of(parser_.open_message()->message);
    if (parser_.messages().empty()) return true;
    const harmony::ParsedMessage& last = parser_.messages().back();
    // Any end token after a final message ends the turn: some models write <|end|> and continue as
    // the user.
    const bool is_over = last.message.role != harmony::Role::kAssistant ||
                         (last.complete() && last.message.channel == "final");
    return !is_over && !stops_.stopped();
  }

  void finish(std::vector<OutputDelta>& out) override {
    const size_t before = parser_.messages().size();
    const std::string text = parser_.finish();
    const auto& messages = parser_.messages();
    if (messages.size() == before || !is_cut_header(messages.back().message, text))
      emit_text(before, text, out);
    emit(Kind::content, stops_.finish(), out);
  }

  std::optional<Kind> current_kind() const override { return current_kind_; }
  std::string matched_stop() const override { return stops_.matched(); }

 private:
  void emit(Kind kind, std::string text, std::vector<OutputDelta>& out) {
    if (text.empty()) return;
    out.push_back({.kind = kind,
                   .text = std::move(text),
                   .starts_message = std::exchange(starts_message_, false),
                   .is_commentary = kind == Kind::content && is_commentary_});
  }

  /// Whether a message without <|message|>, ended by the token budget, is only a part of a header:
  /// its text is not content, and the name of its function may be incomplete.
  bool is_cut_header(const harmony::Message& message, std::string_view text) const {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    return header_started_ || message.is_tool_call() || std::string_view("to=").starts_with(text);
  }

  static Kind kind_of(const harmony::Message& message) {
    if (message.is_tool_call()) return Kind::arguments;
    return message.channel == "analysis" ? Kind::reasoning : Kind::content;
  }

  /// `before`: the number of messages before `text` was parsed.
  void emit_text(size_t before, const std::string& text, std::vector<OutputDelta>& out) {
    if (parser_.messages().empty()) return;
    const harmony::Message& message = parser_.messages().back().message;
    if (message.role != harmony::Role::kAssistant) return;
    const Kind kind = kind_of(message);
    if (parser_.messages().size() > before) {
      emit(Kind::content, stops_.finish(), out);  // of the previous message
      starts_message_ = true;
      is_commentary_ = message.channel == "commentary";
      if (kind == Kind::arguments) {
        constexpr std::string_view kFunctions = "functions.";
        std::string name = *message.recipient;
        if (name.starts_with(kFunctions)) name.erase(0, kFunctions.size());
        emit(Kind::tool_call, std::move(name), out);
      }
    }
    emit(kind, kind == Kind::content ? stops_.push(text) : text, out);
  }

  const harmony::ControlTokens control_;
  harmony::HarmonyParser parser_;
  text::StopStrings stops_;
  bool header_started_ = false;  // a control token of a header was the last to be parsed
  bool starts_message_ = false, is_commentary_ = false;  // of the next delta's message
  std::optional<Kind> current_kind_;
};

class PlainTextParser : public OutputParser {
 public:
  PlainTextParser(std::shared_ptr<const text::Tokenizer> tokenizer, PlainTextOptions options)
      : decoder_(std::move(tokenizer), options.skip_special),
        stops_(options.stops),
        options_(std::move(options)) {
    if (options_.has_reasoning) thinking_.emplace(options_.starts_in_reasoning);
  }

  bool push(text::TokenId token, std::vector<OutputDelta>& out) override {
    const auto& stop_tokens = options_.stop_tokens;
    if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
      current_kind_.reset();
      return false;
    }
    current_kind_ = Kind::content;
    emit_text(decoder_.push(token), out);
    return !stops_.stopped();
  }

  void finish(std::vector<OutputDelta>& out) override {
    emit_text(decoder_.finish(), out);
    if (thinking_) {
      text::ReasoningParser::Delta last = thinking_->finish();
      append(out, Kind::reasoning, std::move(last.reasoning));
      append(out, Kind::content, stops_.push(last.content));
    }
    append(out, Kind::content, stops_.finish());
  }

  std::optional<Kind> current_kind() const override { return current_kind_; }
  std::string matched_stop() const override { return stops_.matched(); }

 private:
  void emit_text(std::string text, std::vector<OutputDelta>& out) {
    if (thinking_) {
      text::ReasoningParser::Delta split = thinking_->push(text);
      if (!split.reasoning.empty()) current_kind_ = Kind::reasoning;
      append(out, Kind::reasoning, std::move(split.reasoning));
      text = std::move(split.content);
    }
    append(out, Kind::content, stops_.push(text));
  }

  text::StreamDecoder decoder_;
  text::StopStrings stops_;
  PlainTextOptions options_;
  std::optional<text::ReasoningParser> thinking_;
  std::optional<Kind> current_kind_;
};

}  // namespace

std::unique_ptr<OutputParser> make_harmony_parser(
    std::shared_ptr<const harmony::HarmonyEncoding> encoding, std::vector<std::string> stops) {
  return std::make_unique<HarmonyOutputParser>(std::move(encoding), std::move(stops));
}

std::unique_ptr<OutputParser> make_plain_text_parser(
    std::shared_ptr<const text::Tokenizer> tokenizer, PlainTextOptions options) {
  return std::make_unique<PlainTextParser>(std::move(tokenizer), std::move(options));
}

}  // namespace mxgpt::chat
