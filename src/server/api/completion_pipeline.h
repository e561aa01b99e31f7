// From the engine's events to an answer: the part that all routes share.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/api/api_error.h"
#include "server/api/route.h"
#include "server/api/served_model.h"

namespace mxgpt::server {

/// Writes one answer, as a stream of events or whole. The choices of all requests are numbered
/// through.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void on_prompt_token(int /*request*/, const engine::PromptToken& /*token*/) {}
  /// False: the choice has ended by what it says.
  virtual bool on_token(int choice, const engine::ChoiceToken& token) = 0;
  /// `length`: it was cut off.
  virtual void on_end(int choice, const engine::ChoiceEnd& end, bool length) = 0;
  /// Moves to `out` the events that there are.
  virtual void drain_events(std::string& out) = 0;
  /// All choices have ended. False if there is still something to do, which this began: `ready` is
  /// called, from any thread, when it is worth asking again.
  virtual bool finalize(const std::function<void()>& /*ready*/) { return true; }
  /// The last events.
  virtual void finish_events(std::string& out) = 0;
  /// The same if the answer failed.
  virtual void fail_events(std::string& out, const ApiError& error);
  virtual std::string body() = 0;
  /// What is sent instead of the whole if the answer failed.
  virtual HttpResponse failure_response(const ApiError& error) { return error_response(error); }
};

/// Appends an event of server-sent events.
void append_event(std::string& out, std::string_view data);
/// The same with a name.
void append_event(std::string& out, std::string_view name, std::string_view data);
/// What OpenAI's chats and completions end with.
inline constexpr std::string_view kDone = "[DONE]";

/// The JSON of what each event of a stream begins with: open at its end, for more members.
std::string json_prefix(const json::object& object);

/// Tokens that a request took.
struct Usage {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
  json::object json() const;
};

/// "chatcmpl-…", an id that nobody can guess.
std::string new_id(std::string_view prefix);
int64_t unix_time();

/// Submits the requests to the engine; `writer` formats the response. Prefixes are cached per
/// client (ApiServer::cache_salt()). Throws ApiError if the engine rejects a request: 429 when its
/// queue is full, 503 during shutdown.
HandlerResult run_completion(const RequestContext& context,
                             const std::shared_ptr<const ServedModel>& served,
                             std::vector<engine::Request> requests,
                             std::unique_ptr<ResponseWriter> writer, bool stream);

}  // namespace mxgpt::server
