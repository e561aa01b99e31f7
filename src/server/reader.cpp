#include "server/reader.h"

#include <algorithm>
#include <utility>

namespace mxgpt::server {

namespace {

using Kind = Piece::Kind;

void append(std::vector<Piece>& out, Kind kind, std::string text) {
  if (!text.empty()) out.push_back({.kind = kind, .text = std::move(text)});
}

class HarmonyReader : public ChoiceReader {
 public:
  HarmonyReader(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                std::vector<std::string> stops)
      : parser_(std::move(encoding)), stops_(std::move(stops)) {}

  bool push(TokenId token, std::vector<Piece>& out) override {
    const bool was_open = parser_.open() != nullptr;
    const size_t before = parser_.messages().size();
    const std::string text = parser_.feed(token);
    show(before, text, out);
    part_.reset();
    if (was_open && parser_.open() && parser_.messages().size() == before)
      part_ = kind_of(parser_.open()->message);
    if (parser_.messages().empty()) return true;
    const harmony::ParsedMessage& last = parser_.messages().back();
    // The turn is over after a final message whatever ends it: some models write <|end|> there and
    // then speak for the user.
    const bool is_over = last.message.role != harmony::Role::kAssistant ||
                         (last.complete() && last.message.channel == "final");
    return !is_over && !stops_.stopped();
  }

  void finish(std::vector<Piece>& out) override {
    const size_t before = parser_.messages().size();
    const std::string text = parser_.finish();
    // A call whose header was cut off has, it may be, half a name.
    const auto& messages = parser_.messages();
    if (messages.size() == before || !messages.back().message.is_tool_call())
      show(before, text, out);
    add(Kind::content, stops_.finish(), out);
  }

  std::optional<Kind> part() const override { return part_; }
  std::string stopped_by() const override { return stops_.found(); }

 private:
  void add(Kind kind, std::string text, std::vector<Piece>& out) {
    if (text.empty()) return;
    out.push_back({.kind = kind,
                   .text = std::move(text),
                   .begins = std::exchange(begins_, false),
                   .preamble = kind == Kind::content && preamble_});
  }

  static Kind kind_of(const harmony::Message& message) {
    if (message.is_tool_call()) return Kind::arguments;
    return message.channel == "analysis" ? Kind::reasoning : Kind::content;
  }

  /// `before`: how many messages there were.
  void show(size_t before, const std::string& text, std::vector<Piece>& out) {
    if (parser_.messages().empty()) return;
    const harmony::Message& message = parser_.messages().back().message;
    if (message.role != harmony::Role::kAssistant) return;
    const Kind kind = kind_of(message);
    if (parser_.messages().size() > before) {
      add(Kind::content, stops_.finish(), out);  // of the message before
      begins_ = true;
      preamble_ = message.channel == "commentary";
      if (kind == Kind::arguments) {
        constexpr std::string_view kFunctions = "functions.";
        std::string name = *message.recipient;
        if (name.starts_with(kFunctions)) name.erase(0, kFunctions.size());
        add(Kind::call, std::move(name), out);
      }
    }
    add(kind, kind == Kind::content ? stops_.push(text) : text, out);
  }

  harmony::HarmonyParser parser_;
  StopStrings stops_;
  bool begins_ = false, preamble_ = false;  // of the message that comes
  std::optional<Kind> part_;
};

class PlainReader : public ChoiceReader {
 public:
  PlainReader(std::shared_ptr<const Tokenizer> tokenizer, PlainReading options)
      : decoder_(std::move(tokenizer), options.skip_special),
        stops_(options.stops),
        options_(std::move(options)) {
    if (options_.thinks) thinking_.emplace(options_.opened_thinking);
  }

  bool push(TokenId token, std::vector<Piece>& out) override {
    const auto& ends = options_.stop_tokens;
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
      part_.reset();
      return false;
    }
    part_ = Kind::content;
    show(decoder_.push(token), out);
    return !stops_.stopped();
  }

  void finish(std::vector<Piece>& out) override {
    show(decoder_.finish(), out);
    if (thinking_) {
      ThinkingSplitter::Piece last = thinking_->finish();
      append(out, Kind::reasoning, std::move(last.thinking));
      append(out, Kind::content, stops_.push(last.answer));
    }
    append(out, Kind::content, stops_.finish());
  }

  std::optional<Kind> part() const override { return part_; }
  std::string stopped_by() const override { return stops_.found(); }

 private:
  void show(std::string text, std::vector<Piece>& out) {
    if (thinking_) {
      ThinkingSplitter::Piece piece = thinking_->push(text);
      if (!piece.thinking.empty()) part_ = Kind::reasoning;
      append(out, Kind::reasoning, std::move(piece.thinking));
      text = std::move(piece.answer);
    }
    append(out, Kind::content, stops_.push(text));
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  PlainReading options_;
  std::optional<ThinkingSplitter> thinking_;
  std::optional<Kind> part_;
};

}  // namespace

std::unique_ptr<ChoiceReader> read_harmony(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                                           std::vector<std::string> stops) {
  return std::make_unique<HarmonyReader>(std::move(encoding), std::move(stops));
}

std::unique_ptr<ChoiceReader> read_plain(std::shared_ptr<const Tokenizer> tokenizer,
                                         PlainReading options) {
  return std::make_unique<PlainReader>(std::move(tokenizer), std::move(options));
}

}  // namespace mxgpt::server
