// From the engine's events to an answer: the part that all routes share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/api_error.h"
#include "server/metrics.h"
#include "server/served.h"

namespace mxgpt::server {

/// Writes one answer, as a stream of events or whole. The choices of all requests are numbered
/// through.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  virtual void prompt_token(int /*request*/, const PromptToken& /*token*/) {}
  /// False: the choice has ended by what it says.
  virtual bool token(int choice, const ChoiceToken& token) = 0;
  /// `length`: it was cut off.
  virtual void end(int choice, const ChoiceEnd& end, bool length) = 0;
  /// Moves to `out` the events that there are.
  virtual void take_events(std::string& out) = 0;
  /// The last events: the usage, if it was asked for.
  virtual void finish_events(std::string& out) = 0;
  virtual std::string whole() = 0;
};

/// Appends an event of server-sent events.
void append_event(std::string& out, std::string_view data);

/// Tokens that a request took.
struct Usage {
  int64_t prompt = 0, cached = 0, answer = 0, reasoning = 0;
  json::object json() const;
};

/// "chatcmpl-…", an id that nobody can guess.
std::string new_id(std::string_view prefix);
int64_t unix_time();

/// Submits the requests and answers by `writer`. Throws ApiError if the engine takes none: 429 with
/// its queue full, 503 when it ends.
Answer generate(const std::shared_ptr<const Served>& served, Metrics& metrics,
                std::vector<Request> requests, std::unique_ptr<AnswerWriter> writer, bool stream);

}  // namespace mxgpt::server
