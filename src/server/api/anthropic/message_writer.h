// Response of /v1/messages: content blocks and events.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "chat/output_parser.h"
#include "server/api/completion_pipeline.h"

namespace mxgpt::server {

class MessageWriter : public ResponseWriter {
 public:
  struct Options {
    bool stream = false;
    bool show_thinking = false;  ///< return reasoning as thinking blocks
    int64_t prompt_tokens = 0, max_tokens = 0;
  };

  MessageWriter(std::shared_ptr<const ServedModel> served,
                std::unique_ptr<chat::OutputParser> parser, const Options& options);

  bool on_token(int choice, const engine::ChoiceToken& token) override;
  void on_end(int choice, const engine::ChoiceEnd& end, bool length) override;
  void drain_events(std::string& out) override;
  void finish_events(std::string& out) override;
  void fail_events(std::string& out, const ApiError& error) override;
  std::string body() override;
  HttpResponse failure_response(const ApiError& error) override;

 private:
  /// The content block being written.
  struct OpenBlock {
    chat::OutputDelta::Kind kind;
    json::object block;  ///< without the text
    std::string text;
  };

  void add_deltas(std::vector<chat::OutputDelta>& deltas);
  void begin_block(const chat::OutputDelta& delta);
  void append_text(std::string text);
  void end_block();
  json::object usage() const;
  json::object message() const;
  void emit(const char* type, json::object event);

  std::shared_ptr<const ServedModel> served_;
  std::unique_ptr<chat::OutputParser> parser_;
  const Options options_;
  const std::string id_ = new_id("msg_");
  json::array content_;
  std::optional<OpenBlock> open_block_;
  bool has_tool_use_ = false;
  Usage usage_;
  json::value stop_reason_, stop_sequence_;
  std::string events_;
};

}  // namespace mxgpt::server
