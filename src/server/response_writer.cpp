#include "server/response_writer.h"

#include <algorithm>
#include <utility>

#include "base/printable.h"
#include "server/logprobs.h"

namespace mxgpt::server {

namespace {
using Kind = Piece::Kind;
}  // namespace

ResponseWriter::ResponseWriter(std::shared_ptr<const Served> served,
                               std::unique_ptr<ChoiceReader> reader, Options options)
    : served_(std::move(served)),
      reader_(std::move(reader)),
      options_(std::move(options)),
      response_(std::move(options_.response)) {
  response_["status"] = "in_progress";
  response_["output"] = json::array();
  response_["usage"] = nullptr;
  emit_response("response.created");
  emit_response("response.in_progress");
}

bool ResponseWriter::token(int, const ChoiceToken& token) {
  std::vector<Piece> pieces;
  const bool more = reader_->push(token.token, pieces);
  ++usage_.answer;
  const auto part = reader_->part();
  if (part == Kind::reasoning) ++usage_.reasoning;
  if (options_.logprobs && part && part != Kind::arguments)
    logprobs_[part == Kind::content].push_back(chat_logprob(*served_, token));
  show(pieces);
  return more;
}

void ResponseWriter::end(int, const ChoiceEnd& end, bool length) {
  std::vector<Piece> pieces;
  reader_->finish(pieces);
  show(pieces);
  close(length ? "incomplete" : "completed");
  usage_.prompt = end.prompt_tokens;
  usage_.cached = end.cached_tokens;
  length_ = length;
}

void ResponseWriter::take_events(std::string& out) {
  out += std::exchange(events_, {});
}

bool ResponseWriter::settle(const std::function<void()>& ready) {
  if (!saving_) {
    response_["status"] = length_ ? "incomplete" : "completed";
    if (length_) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response_["completed_at"] = unix_time();
    response_["output"] = std::move(output_);
    response_["usage"] = {
        {"input_tokens", usage_.prompt},
        {"input_tokens_details",
         {{"cached_tokens", usage_.cached}, {"cache_write_tokens", usage_.prompt - usage_.cached}}},
        {"output_tokens", usage_.answer},
        {"output_tokens_details", {{"reasoning_tokens", usage_.reasoning}}},
        {"total_tokens", usage_.prompt + usage_.answer}};
    saving_ = std::make_shared<Saving>();
    saving_->done = !options_.store;
    if (!options_.store) return true;
    options_.stored.response = json::serialize(response_);
    options_.store->put(std::move(options_.stored),
                        [saving = saving_, ready](const std::string& error) {
                          {
                            const std::lock_guard lock(saving->mutex);
                            saving->done = true;
                            saving->error = error;
                          }
                          ready();
                        });
  }
  const std::lock_guard lock(saving_->mutex);
  // The answer is good all the same, and says that it was not kept.
  if (!saving_->error.empty()) response_["store"] = false;
  return saving_->done;
}

void ResponseWriter::finish_events(std::string& out) {
  emit_response(length_ ? "response.incomplete" : "response.completed");
  take_events(out);
}

void ResponseWriter::fail_events(std::string& out, const ApiError& error) {
  close("incomplete");
  response_["status"] = "failed";
  response_["output"] = std::move(output_);
  response_["error"] = {{"code", error.code.empty() ? "server_error" : error.code},
                        {"message", printable(error.what(), 2000)}};
  emit_response("response.failed");
  take_events(out);
}

std::string ResponseWriter::whole() {
  return json::serialize(response_);
}

void ResponseWriter::show(std::vector<Piece>& pieces) {
  for (Piece& piece : pieces) {
    const bool goes_on =
        piece.kind == Kind::arguments || (open_ && open_->kind == piece.kind && !piece.begins);
    if (!goes_on) open(piece);
    if (piece.kind != Kind::call) add(std::move(piece.text));
  }
}

void ResponseWriter::open(const Piece& piece) {
  close("completed");
  json::object item;
  switch (piece.kind) {
    case Kind::reasoning:
      item = {{"id", new_id("rs_")},
              {"type", "reasoning"},
              {"summary", json::array()},
              {"content", json::array()},
              {"encrypted_content", nullptr}};
      break;
    case Kind::content:
      item = {{"id", new_id("msg_")},
              {"type", "message"},
              {"role", "assistant"},
              {"phase", piece.preamble ? "commentary" : "final_answer"},
              {"content", json::array()}};
      break;
    case Kind::call:
    case Kind::arguments:
      item = {{"id", new_id("fc_")},
              {"type", "function_call"},
              {"call_id", new_id("call_")},
              {"name", piece.text},
              {"arguments", ""}};
      break;
  }
  item["status"] = "in_progress";
  open_ = Open{.kind = piece.kind, .item = std::move(item), .text = {}, .logprobs = {}};
  emit("response.output_item.added", {{"output_index", output_.size()}, {"item", open_->item}});
  if (piece.kind != Kind::call)
    emit("response.content_part.added", with_place({{"part", part(*open_, false)}}));
}

/// With what says which text an event is about.
json::object ResponseWriter::with_place(json::object event) const {
  event["item_id"] = open_->item.at("id");
  event["output_index"] = output_.size();
  if (open_->kind != Kind::call) event["content_index"] = 0;
  return event;
}

json::object ResponseWriter::part(const Open& open, bool whole) const {
  json::object part{{"type", open.kind == Kind::reasoning ? "reasoning_text" : "output_text"},
                    {"text", whole ? open.text : ""}};
  if (open.kind == Kind::content) part["annotations"] = json::array();
  if (open.kind == Kind::content || options_.logprobs)
    part["logprobs"] = whole ? open.logprobs : json::array();
  return part;
}

void ResponseWriter::add(std::string text) {
  json::object event{{"delta", text}};
  open_->text += text;
  if (open_->kind == Kind::call)
    return emit("response.function_call_arguments.delta", with_place(std::move(event)));
  json::array logprobs = std::exchange(logprobs_[open_->kind == Kind::content], {});
  open_->logprobs.insert(open_->logprobs.end(), logprobs.begin(), logprobs.end());
  if (open_->kind == Kind::content || options_.logprobs) event["logprobs"] = std::move(logprobs);
  emit(open_->kind == Kind::reasoning ? "response.reasoning_text.delta"
                                      : "response.output_text.delta",
       with_place(std::move(event)));
}

void ResponseWriter::close(const char* status) {
  if (!open_) return;
  json::object& item = open_->item;
  item["status"] = status;
  if (open_->kind == Kind::call) {
    item["arguments"] = open_->text;
    emit("response.function_call_arguments.done",
         with_place({{"name", item.at("name")}, {"arguments", open_->text}}));
  } else {
    const bool is_reasoning = open_->kind == Kind::reasoning;
    json::object done{{"text", open_->text}};
    if (!is_reasoning || options_.logprobs) done["logprobs"] = open_->logprobs;
    emit(is_reasoning ? "response.reasoning_text.done" : "response.output_text.done",
         with_place(std::move(done)));
    json::object whole = part(*open_, true);
    emit("response.content_part.done", with_place({{"part", whole}}));
    item["content"].get_array().push_back(std::move(whole));
  }
  emit("response.output_item.done", {{"output_index", output_.size()}, {"item", item}});
  output_.push_back(std::move(item));
  open_.reset();
}

void ResponseWriter::emit(const char* type, json::object event) {
  if (!options_.stream) return;
  event["type"] = type;
  event["sequence_number"] = sequence_++;
  append_event(events_, type, json::serialize(event));
}

void ResponseWriter::emit_response(const char* type) {
  if (options_.stream) emit(type, {{"response", response_}});
}

}  // namespace mxgpt::server
