// One answer of /v1/responses: its items and events, and that it is kept.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/generation.h"
#include "server/reader.h"
#include "server/response_store.h"

namespace mxgpt::server {

class ResponseWriter : public AnswerWriter {
 public:
  struct Options {
    json::object response;  ///< what the answer says of its request; "id" among it
    bool stream = false, logprobs = false;
    ResponseStore* store = nullptr;  ///< outlives the writer; null: it is not kept
    StoredResponse stored;           ///< all but the response
  };

  ResponseWriter(std::shared_ptr<const Served> served, std::unique_ptr<ChoiceReader> reader,
                 Options options);

  bool token(int choice, const ChoiceToken& token) override;
  void end(int choice, const ChoiceEnd& end, bool length) override;
  void take_events(std::string& out) override;
  bool settle(const std::function<void()>& ready) override;
  void finish_events(std::string& out) override;
  void fail_events(std::string& out, const ApiError& error) override;
  std::string whole() override;

 private:
  /// The item that is being written.
  struct Open {
    Piece::Kind kind;
    json::object item;  ///< without its text
    std::string text;
    json::array logprobs;  ///< all of them
  };
  /// What the store's thread says, which may outlive the writer.
  struct Saving {
    std::mutex mutex;
    bool done = false;
    std::string error;
  };

  void show(std::vector<Piece>& pieces);
  void open(const Piece& piece);
  void add(std::string text);
  void close(const char* status);
  json::object part(const Open& open, bool whole) const;
  json::object with_place(json::object event) const;
  void emit(const char* type, json::object event);
  void emit_response(const char* type);

  std::shared_ptr<const Served> served_;
  std::unique_ptr<ChoiceReader> reader_;
  Options options_;
  json::object response_;
  json::array output_;
  std::optional<Open> open_;
  json::array logprobs_[2];  // not shown yet; of reasoning, of content
  Usage usage_;
  bool length_ = false;
  std::shared_ptr<Saving> saving_;
  int64_t sequence_ = 0;
  std::string events_;
};

}  // namespace mxgpt::server
