// From engine events to an HTTP response; shared by all generating routes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/api/api_error.h"
#include "server/api/route.h"
#include "server/api/served_model.h"

namespace mxgpt::server {

/// Formats one response, as a stream of events or as a whole. Choices are numbered across all
/// requests.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void on_prompt_token(int /*request*/, const engine::PromptToken& /*token*/) {}
  /// Returns false if the text of the choice ends it: a stop string or the end of the message.
  virtual bool on_token(int choice, const engine::ChoiceToken& token) = 0;
  /// `length`: the choice was truncated.
  virtual void on_end(int choice, const engine::ChoiceEnd& end, bool length) = 0;
  /// Appends the pending events and clears them.
  virtual void drain_events(std::string& out) = 0;
  /// Called when all choices have ended. Returns false while work that it started is pending; then
  /// `ready` is called, from any thread, when finalize() should be called again.
  virtual bool finalize(const std::function<void()>& /*ready*/) { return true; }
  /// Appends the last events.
  virtual void finish_events(std::string& out) = 0;
  /// Appends the last events of a failed response.
  virtual void fail_events(std::string& out, const ApiError& error);
  virtual std::string body() = 0;
  /// Replaces body() if the response failed.
  virtual HttpResponse failure_response(const ApiError& error) { return error_response(error); }
};

/// Appends one server-sent event.
void append_event(std::string& out, std::string_view data);
/// Appends a named server-sent event.
void append_event(std::string& out, std::string_view name, std::string_view data);
/// The last event of OpenAI's chat completions and completions.
inline constexpr std::string_view kDone = "[DONE]";

/// The object as JSON without its closing brace, so that each event can append members.
std::string json_prefix(const json::object& object);

/// Token counts of a request.
struct Usage {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
  json::object json() const;
};

/// A random id with the prefix, "chatcmpl-…".
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
