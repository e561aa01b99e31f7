// One answer of /v1/messages: its blocks and events.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "server/generation.h"
#include "server/reader.h"

namespace mxgpt::server {

class MessageWriter : public AnswerWriter {
 public:
  struct Options {
    bool stream = false;
    bool thinking = false;  ///< reasoning is shown
    int64_t prompt_tokens = 0, max_tokens = 0;
  };

  MessageWriter(std::shared_ptr<const Served> served, std::unique_ptr<ChoiceReader> reader,
                const Options& options);

  bool token(int choice, const ChoiceToken& token) override;
  void end(int choice, const ChoiceEnd& end, bool length) override;
  void take_events(std::string& out) override;
  void finish_events(std::string& out) override;
  void fail_events(std::string& out, const ApiError& error) override;
  std::string whole() override;
  HttpResponse failure(const ApiError& error) override;

 private:
  /// The block that is being written.
  struct Open {
    Piece::Kind kind;
    json::object block;  ///< without its text
    std::string text;
  };

  void show(std::vector<Piece>& pieces);
  void open(const Piece& piece);
  void add(std::string text);
  void close();
  json::object usage() const;
  json::object message() const;
  void emit(const char* type, json::object event);

  std::shared_ptr<const Served> served_;
  std::unique_ptr<ChoiceReader> reader_;
  const Options options_;
  const std::string id_ = new_id("msg_");
  json::array content_;
  std::optional<Open> open_;
  bool called_ = false;
  Usage usage_;
  json::value stop_reason_, stop_sequence_;
  std::string events_;
};

}  // namespace mxgpt::server
