// Response of /v1/responses: output items, events, and storing it.
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
    json::object response;  ///< the response object before generation, with its id
    bool stream = false, logprobs = false;
    ResponseStore* store = nullptr;  ///< must outlive the writer; null: not stored
    StoredResponse stored_response;  ///< without the response object
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
  /// The output item being written.
  struct OpenItem {
    chat::OutputDelta::Kind kind;
    json::object item;  ///< without the text
    std::string text;
    json::array logprobs;  ///< of the whole item
  };
  /// Result of storing, set by the store's thread. May outlive the writer.
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
  json::array pending_logprobs_[2];  // not sent yet; [reasoning, content]
  Usage usage_;
  bool truncated_ = false;
  std::shared_ptr<SaveState> save_state_;
  int64_t sequence_number_ = 0;
  std::string events_;
};

}  // namespace mxgpt::server
