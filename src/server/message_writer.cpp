#include "server/message_writer.h"

#include <utility>

#include "base/error.h"

namespace mxgpt::server {

namespace {

using Kind = Piece::Kind;

/// The arguments of a call that came to its end are an object; of one that was cut off, nothing is
/// known.
json::value object_of(const std::string& arguments) {
  try {
    json::value value = json::parse(arguments, "arguments");
    if (value.is_object()) return value;
  } catch (const Error&) {
  }
  return json::object();
}

}  // namespace

MessageWriter::MessageWriter(std::shared_ptr<const Served> served,
                             std::unique_ptr<ChoiceReader> reader, const Options& options)
    : served_(std::move(served)), reader_(std::move(reader)), options_(options) {
  usage_.prompt = options.prompt_tokens;
  emit("message_start", {{"message", message()}});
}

bool MessageWriter::token(int, const ChoiceToken& token) {
  std::vector<Piece> pieces;
  const bool more = reader_->push(token.token, pieces);
  ++usage_.answer;
  if (reader_->part() == Kind::reasoning) ++usage_.reasoning;
  show(pieces);
  return more;
}

void MessageWriter::end(int, const ChoiceEnd& end, bool length) {
  std::vector<Piece> pieces;
  reader_->finish(pieces);
  show(pieces);
  close();
  usage_.prompt = end.prompt_tokens;
  usage_.cached = end.cached_tokens;
  const std::string stop = reader_->stopped_by();
  if (!stop.empty()) {
    stop_reason_ = "stop_sequence";
    stop_sequence_ = stop;
  } else if (length) {
    stop_reason_ =
        usage_.answer < options_.max_tokens ? "model_context_window_exceeded" : "max_tokens";
  } else {
    stop_reason_ = called_ ? "tool_use" : "end_turn";
  }
}

void MessageWriter::take_events(std::string& out) {
  out += std::exchange(events_, {});
}

void MessageWriter::finish_events(std::string& out) {
  emit("message_delta",
       {{"delta", {{"stop_reason", stop_reason_}, {"stop_sequence", stop_sequence_}}},
        {"usage", usage()}});
  emit("message_stop", {});
  take_events(out);
}

void MessageWriter::fail_events(std::string& out, const ApiError& error) {
  append_event(out, "error", error_json(error, ErrorShape::anthropic));
}

std::string MessageWriter::whole() {
  return json::serialize(message());
}

HttpResponse MessageWriter::failure(const ApiError& error) {
  return error_response(error, ErrorShape::anthropic);
}

void MessageWriter::show(std::vector<Piece>& pieces) {
  for (Piece& piece : pieces) {
    if (piece.kind == Kind::reasoning && !options_.thinking) continue;
    const bool goes_on =
        piece.kind == Kind::arguments || (open_ && open_->kind == piece.kind && !piece.begins);
    if (!goes_on) open(piece);
    if (piece.kind != Kind::call) add(std::move(piece.text));
  }
}

void MessageWriter::open(const Piece& piece) {
  close();
  json::object block;
  switch (piece.kind) {
    case Kind::reasoning:
      block = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
      break;
    case Kind::content:
      block = {{"type", "text"}, {"text", ""}};
      break;
    case Kind::call:
    case Kind::arguments:
      block = {{"type", "tool_use"},
               {"id", new_id("toolu_")},
               {"name", piece.text},
               {"input", json::object()}};
      called_ = true;
      break;
  }
  open_ = Open{.kind = piece.kind, .block = std::move(block), .text = {}};
  emit("content_block_start", {{"index", content_.size()}, {"content_block", open_->block}});
}

void MessageWriter::add(std::string text) {
  json::object delta;
  open_->text += text;
  if (open_->kind == Kind::reasoning)
    delta = {{"type", "thinking_delta"}, {"thinking", std::move(text)}};
  else if (open_->kind == Kind::content)
    delta = {{"type", "text_delta"}, {"text", std::move(text)}};
  else
    delta = {{"type", "input_json_delta"}, {"partial_json", std::move(text)}};
  emit("content_block_delta", {{"index", content_.size()}, {"delta", std::move(delta)}});
}

void MessageWriter::close() {
  if (!open_) return;
  json::object& block = open_->block;
  if (open_->kind == Kind::reasoning) {
    // Reasoning is taken back from anyone; clients want something to keep beside it.
    block["thinking"] = open_->text;
    block["signature"] = "unsigned";
    emit("content_block_delta",
         {{"index", content_.size()},
          {"delta", {{"type", "signature_delta"}, {"signature", "unsigned"}}}});
  } else if (open_->kind == Kind::content) {
    block["text"] = open_->text;
  } else {
    block["input"] = object_of(open_->text);
  }
  emit("content_block_stop", {{"index", content_.size()}});
  content_.push_back(std::move(block));
  open_.reset();
}

json::object MessageWriter::usage() const {
  return {{"input_tokens", usage_.prompt - usage_.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage_.cached},
          {"output_tokens", usage_.answer},
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
