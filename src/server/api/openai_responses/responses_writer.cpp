#include "server/api/openai_responses/responses_writer.h"

#include <algorithm>
#include <utility>

#include "base/escape.h"
#include "server/api/logprobs.h"

namespace mxgpt::server {

namespace {
using Kind = chat::OutputDelta::Kind;
}  // namespace

ResponsesWriter::ResponsesWriter(std::shared_ptr<const ServedModel> served,
                                 std::unique_ptr<chat::OutputParser> parser, Options options)
    : served_(std::move(served)),
      parser_(std::move(parser)),
      options_(std::move(options)),
      response_(std::move(options_.response)) {
  response_["status"] = "in_progress";
  response_["output"] = json::array();
  response_["usage"] = nullptr;
  emit_response("response.created");
  emit_response("response.in_progress");
}

bool ResponsesWriter::on_token(int, const engine::ChoiceToken& token) {
  std::vector<chat::OutputDelta> deltas;
  const bool more = parser_->push(token.token, deltas);
  ++usage_.completion;
  const auto kind = parser_->current_kind();
  if (kind == Kind::reasoning) ++usage_.reasoning;
  if (options_.logprobs && kind && kind != Kind::arguments)
    pending_logprobs_[kind == Kind::content].push_back(chat_logprob(*served_, token));
  add_deltas(deltas);
  return more;
}

void ResponsesWriter::on_end(int, const engine::ChoiceEnd& end, bool length) {
  std::vector<chat::OutputDelta> deltas;
  parser_->finish(deltas);
  add_deltas(deltas);
  end_item(length ? "incomplete" : "completed");
  usage_.prompt = end.prompt_tokens;
  usage_.cached = end.cached_tokens;
  truncated_ = length;
}

void ResponsesWriter::drain_events(std::string& out) {
  out += std::exchange(events_, {});
}

bool ResponsesWriter::finalize(const std::function<void()>& ready) {
  if (!save_state_) {
    response_["status"] = truncated_ ? "incomplete" : "completed";
    if (truncated_) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response_["completed_at"] = unix_time();
    response_["output"] = std::move(output_);
    response_["usage"] = {
        {"input_tokens", usage_.prompt},
        {"input_tokens_details",
         {{"cached_tokens", usage_.cached}, {"cache_write_tokens", usage_.prompt - usage_.cached}}},
        {"output_tokens", usage_.completion},
        {"output_tokens_details", {{"reasoning_tokens", usage_.reasoning}}},
        {"total_tokens", usage_.prompt + usage_.completion}};
    save_state_ = std::make_shared<SaveState>();
    save_state_->done = !options_.store;
    if (!options_.store) return true;
    options_.stored_response.response = json::serialize(response_);
    options_.store->put(std::move(options_.stored_response),
                        [save_state = save_state_, ready](const std::string& error) {
                          {
                            const std::lock_guard lock(save_state->mutex);
                            save_state->done = true;
                            save_state->error = error;
                          }
                          ready();
                        });
  }
  const std::lock_guard lock(save_state_->mutex);
  // The response is valid although it was not stored, and says so.
  if (!save_state_->error.empty()) response_["store"] = false;
  return save_state_->done;
}

void ResponsesWriter::finish_events(std::string& out) {
  emit_response(truncated_ ? "response.incomplete" : "response.completed");
  drain_events(out);
}

void ResponsesWriter::fail_events(std::string& out, const ApiError& error) {
  end_item("incomplete");
  response_["status"] = "failed";
  response_["output"] = std::move(output_);
  response_["error"] = {{"code", error.code.empty() ? "server_error" : error.code},
                        {"message", escape_for_terminal(error.what(), 2000)}};
  emit_response("response.failed");
  drain_events(out);
}

std::string ResponsesWriter::body() {
  return json::serialize(response_);
}

void ResponsesWriter::add_deltas(std::vector<chat::OutputDelta>& deltas) {
  for (chat::OutputDelta& delta : deltas) {
    const bool continues = delta.kind == Kind::arguments ||
                           (open_item_ && open_item_->kind == delta.kind && !delta.starts_message);
    if (!continues) begin_item(delta);
    if (delta.kind != Kind::tool_call) append_text(std::move(delta.text));
  }
}

void ResponsesWriter::begin_item(const chat::OutputDelta& delta) {
  end_item("completed");
  json::object item;
  switch (delta.kind) {
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
              {"phase", delta.is_commentary ? "commentary" : "final_answer"},
              {"content", json::array()}};
      break;
    case Kind::tool_call:
    case Kind::arguments:
      item = {{"id", new_id("fc_")},
              {"type", "function_call"},
              {"call_id", new_id("call_")},
              {"name", delta.text},
              {"arguments", ""}};
      break;
  }
  item["status"] = "in_progress";
  open_item_ = OpenItem{.kind = delta.kind, .item = std::move(item), .text = {}, .logprobs = {}};
  emit("response.output_item.added",
       {{"output_index", output_.size()}, {"item", open_item_->item}});
  if (delta.kind != Kind::tool_call)
    emit("response.content_part.added",
         with_item_location({{"part", content_part(*open_item_, false)}}));
}

/// Adds the ids that locate the text of an event.
json::object ResponsesWriter::with_item_location(json::object event) const {
  event["item_id"] = open_item_->item.at("id");
  event["output_index"] = output_.size();
  if (open_item_->kind != Kind::tool_call) event["content_index"] = 0;
  return event;
}

json::object ResponsesWriter::content_part(const OpenItem& item, bool complete) const {
  json::object part{{"type", item.kind == Kind::reasoning ? "reasoning_text" : "output_text"},
                    {"text", complete ? item.text : ""}};
  if (item.kind == Kind::content) part["annotations"] = json::array();
  if (item.kind == Kind::content || options_.logprobs)
    part["logprobs"] = complete ? item.logprobs : json::array();
  return part;
}

void ResponsesWriter::append_text(std::string text) {
  json::object event{{"delta", text}};
  open_item_->text += text;
  if (open_item_->kind == Kind::tool_call)
    return emit("response.function_call_arguments.delta", with_item_location(std::move(event)));
  json::array logprobs = std::exchange(pending_logprobs_[open_item_->kind == Kind::content], {});
  open_item_->logprobs.insert(open_item_->logprobs.end(), logprobs.begin(), logprobs.end());
  if (open_item_->kind == Kind::content || options_.logprobs)
    event["logprobs"] = std::move(logprobs);
  emit(open_item_->kind == Kind::reasoning ? "response.reasoning_text.delta"
                                           : "response.output_text.delta",
       with_item_location(std::move(event)));
}

void ResponsesWriter::end_item(const char* status) {
  if (!open_item_) return;
  json::object& item = open_item_->item;
  item["status"] = status;
  if (open_item_->kind == Kind::tool_call) {
    item["arguments"] = open_item_->text;
    emit("response.function_call_arguments.done",
         with_item_location({{"name", item.at("name")}, {"arguments", open_item_->text}}));
  } else {
    const bool is_reasoning = open_item_->kind == Kind::reasoning;
    json::object done{{"text", open_item_->text}};
    if (!is_reasoning || options_.logprobs) done["logprobs"] = open_item_->logprobs;
    emit(is_reasoning ? "response.reasoning_text.done" : "response.output_text.done",
         with_item_location(std::move(done)));
    json::object complete_part = content_part(*open_item_, true);
    emit("response.content_part.done", with_item_location({{"part", complete_part}}));
    item["content"].get_array().push_back(std::move(complete_part));
  }
  emit("response.output_item.done", {{"output_index", output_.size()}, {"item", item}});
  output_.push_back(std::move(item));
  open_item_.reset();
}

void ResponsesWriter::emit(const char* type, json::object event) {
  if (!options_.stream) return;
  event["type"] = type;
  event["sequence_number"] = sequence_number_++;
  append_event(events_, type, json::serialize(event));
}

void ResponsesWriter::emit_response(const char* type) {
  if (options_.stream) emit(type, {{"response", response_}});
}

}  // namespace mxgpt::server
