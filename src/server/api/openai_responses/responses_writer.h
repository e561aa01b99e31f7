// One answer of /v1/responses: its items and events, and that it is kept.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "chat/output_parser.h"
#include "server/api/completion_pipeline.h"
#include "server/store/response_store.h"

namespace mxgpt::server {

class ResponsesWriter : public ResponseWriter {
 public:
  struct Options {
    json::object response;  ///< what the answer says of its request; "id" among it
    bool stream = false, logprobs = false;
    ResponseStore* store = nullptr;  ///< outlives the writer; null: it is not kept
    StoredResponse stored_response;  ///< all but the response
  };

  ResponsesWriter(std::shared_ptr<const ServedModel> served,
                  std::unique_ptr<chat::OutputParser> parser, Options options);

  bool on_token(int choice, const engine::ChoiceToken& token) override;
  void on_end(int choice, const engine::ChoiceEnd& end, bool length) override;
  void drain_events(std::string& out) override;
  bool finalize(const std::function<void()>& ready) override;
  void finish_events(std::string& out) override;
  void fail_events(std::string& out, const ApiError& error) override;
  std::string body() override;

 private:
  /// The item that is being written.
  struct OpenItem {
    chat::OutputDelta::Kind kind;
    json::object item;  ///< without its text
    std::string text;
    json::array logprobs;  ///< all of them
  };
  /// What the store's thread says, which may outlive the writer.
  struct SaveState {
    std::mutex mutex;
    bool done = false;
    std::string error;
  };

  void add_deltas(std::vector<chat::OutputDelta>& deltas);
  void begin_item(const chat::OutputDelta& delta);
  void append_text(std::string text);
  void end_item(const char* status);
  json::object content_part(const OpenItem& item, bool complete) const;
  json::object with_item_location(json::object event) const;
  void emit(const char* type, json::object event);
  void emit_response(const char* type);

  std::shared_ptr<const ServedModel> served_;
  std::unique_ptr<chat::OutputParser> parser_;
  Options options_;
  json::object response_;
  json::array output_;
  std::optional<OpenItem> open_item_;
  json::array pending_logprobs_[2];  // not shown yet; of reasoning, of content
  Usage usage_;
  bool truncated_ = false;
  std::shared_ptr<SaveState> save_state_;
  int64_t sequence_number_ = 0;
  std::string events_;
};

}  // namespace mxgpt::server
