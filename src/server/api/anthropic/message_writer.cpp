#include "server/api/anthropic/message_writer.h"

#include <utility>

#include "base/error.h"

namespace mxgpt::server {

namespace {

using Kind = chat::OutputDelta::Kind;

/// The arguments of a complete call; an empty object if the call was truncated.
json::value parse_tool_input(const std::string& arguments) {
  try {
    json::value value = json::parse(arguments, "arguments");
    if (value.is_object()) return value;
  } catch (const Error&) {
  }
  return json::object();
}

}  // namespace

MessageWriter::MessageWriter(std::shared_ptr<const ServedModel> served,
                             std::unique_ptr<chat::OutputParser> parser, const Options& options)
    : served_(std::move(served)), parser_(std::move(parser)), options_(options) {
  usage_.prompt = options.prompt_tokens;
  emit("message_start", {{"message", message()}});
}

bool MessageWriter::on_token(int, const engine::ChoiceToken& token) {
  std::vector<chat::OutputDelta> deltas;
  const bool more = parser_->push(token.token, deltas);
  ++usage_.completion;
  if (parser_->current_kind() == Kind::reasoning) ++usage_.reasoning;
  add_deltas(deltas);
  return more;
}

void MessageWriter::on_end(int, const engine::ChoiceEnd& end, bool length) {
  std::vector<chat::OutputDelta> deltas;
  parser_->finish(deltas);
  add_deltas(deltas);
  end_block();
  usage_.prompt = end.prompt_tokens;
  usage_.cached = end.cached_tokens;
  const std::string stop = parser_->matched_stop();
  if (!stop.empty()) {
    stop_reason_ = "stop_sequence";
    stop_sequence_ = stop;
  } else if (length) {
    stop_reason_ =
        usage_.completion < options_.max_tokens ? "model_context_window_exceeded" : "max_tokens";
  } else {
    stop_reason_ = has_tool_use_ ? "tool_use" : "end_turn";
  }
}

void MessageWriter::drain_events(std::string& out) {
  out += std::exchange(events_, {});
}

void MessageWriter::finish_events(std::string& out) {
  emit("message_delta",
       {{"delta", {{"stop_reason", stop_reason_}, {"stop_sequence", stop_sequence_}}},
        {"usage", usage()}});
  emit("message_stop", {});
  drain_events(out);
}

void MessageWriter::fail_events(std::string& out, const ApiError& error) {
  append_event(out, "error", error_json(error, ErrorShape::anthropic));
}

std::string MessageWriter::body() {
  return json::serialize(message());
}

HttpResponse MessageWriter::failure_response(const ApiError& error) {
  return error_response(error, ErrorShape::anthropic);
}

void MessageWriter::add_deltas(std::vector<chat::OutputDelta>& deltas) {
  for (chat::OutputDelta& delta : deltas) {
    if (delta.kind == Kind::reasoning && !options_.show_thinking) continue;
    const bool continues =
        delta.kind == Kind::arguments ||
        (open_block_ && open_block_->kind == delta.kind && !delta.starts_message);
    if (!continues) begin_block(delta);
    if (delta.kind != Kind::tool_call) append_text(std::move(delta.text));
  }
}

void MessageWriter::begin_block(const chat::OutputDelta& delta) {
  end_block();
  json::object block;
  switch (delta.kind) {
    case Kind::reasoning:
      block = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
      break;
    case Kind::content:
      block = {{"type", "text"}, {"text", ""}};
      break;
    case Kind::tool_call:
    case Kind::arguments:
      block = {{"type", "tool_use"},
               {"id", new_id("toolu_")},
               {"name", delta.text},
               {"input", json::object()}};
      has_tool_use_ = true;
      break;
  }
  open_block_ = OpenBlock{.kind = delta.kind, .block = std::move(block), .text = {}};
  emit("content_block_start", {{"index", content_.size()}, {"content_block", open_block_->block}});
}

void MessageWriter::append_text(std::string text) {
  json::object delta;
  open_block_->text += text;
  if (open_block_->kind == Kind::reasoning)
    delta = {{"type", "thinking_delta"}, {"thinking", std::move(text)}};
  else if (open_block_->kind == Kind::content)
    delta = {{"type", "text_delta"}, {"text", std::move(text)}};
  else
    delta = {{"type", "input_json_delta"}, {"partial_json", std::move(text)}};
  emit("content_block_delta", {{"index", content_.size()}, {"delta", std::move(delta)}});
}

void MessageWriter::end_block() {
  if (!open_block_) return;
  json::object& block = open_block_->block;
  if (open_block_->kind == Kind::reasoning) {
    // The API requires a signature. Reasoning is accepted from any client, so this is a
    // placeholder.
    block["thinking"] = open_block_->text;
    block["signature"] = "unsigned";
    emit("content_block_delta",
         {{"index", content_.size()},
          {"delta", {{"type", "signature_delta"}, {"signature", "unsigned"}}}});
  } else if (open_block_->kind == Kind::content) {
    block["text"] = open_block_->text;
  } else {
    block["input"] = parse_tool_input(open_block_->text);
  }
  emit("content_block_stop", {{"index", content_.size()}});
  content_.push_back(std::move(block));
  open_block_.reset();
}

json::object MessageWriter::usage() const {
  return {{"input_tokens", usage_.prompt - usage_.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage_.cached},
          {"output_tokens", usage_.completion},
          {"output_tokens_details", {{"thinking_tokens", usage_.reasoning}}}};
}

json::object MessageWriter::message() const {
  return {{"id", id_},
          {"type", "message"},
          {"role", "assistant"},
          {"model", served_->name()},
          {"content", content_},
          {"stop_reason", stop_reason_},
          {"stop_sequence", stop_sequence_},
          {"usage", usage()}};
}

void MessageWriter::emit(const char* type, json::object event) {
  if (!options_.stream) return;
  event["type"] = type;
  append_event(events_, type, json::serialize(event));
}

}  // namespace mxgpt::server
