#include "server/api/completion_pipeline.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <chrono>
#include <set>
#include <utility>

#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

/// Feeds the engine's token streams of one response to its writer.
class StreamPump {
 public:
  StreamPump(std::shared_ptr<const ServedModel> served, Metrics& metrics,
             std::vector<engine::TokenStream> streams, int choices,
             std::unique_ptr<ResponseWriter> writer)
      : served_(std::move(served)),
        metrics_(metrics),
        streams_(std::move(streams)),
        choices_per_stream_(choices),
        writer_(std::move(writer)) {}

  void on_ready(const std::function<void(bool)>& ready) {
    on_finalized_ = [ready] { ready(true); };
    for (engine::TokenStream& stream : streams_) stream.on_ready(ready);
  }

  /// Processes the available events; returns false when all streams have ended. Throws ApiError if
  /// generation failed.
  bool process() {
    made_progress_ = false;
    for (size_t i = 0; i < streams_.size(); ++i) {
      for (engine::StreamEvent& event : streams_[i].poll()) {
        made_progress_ = true;
        std::visit([&](auto& e) { take(static_cast<int>(i), e); }, event);
      }
    }
    return ended_streams_ < streams_.size() || !writer_->finalize(on_finalized_);
  }

  bool made_progress() const { return made_progress_; }
  ResponseWriter& writer() { return *writer_; }

 private:
  void take(int request, const engine::PromptToken& token) {
    writer_->on_prompt_token(request, token);
  }

  void take(int request, const engine::ChoiceToken& token) {
    const int choice = request * choices_per_stream_ + token.choice;
    if (stopped_choices_.contains(choice) || writer_->on_token(choice, token)) return;
    stopped_choices_.insert(choice);
    streams_[request].cancel(token.choice);
  }

  void take(int request, const engine::ChoiceEnd& end) {
    const int choice = request * choices_per_stream_ + end.choice;
    const bool stopped_by_writer = stopped_choices_.contains(choice);
    metrics_.record_choice(end);
    if (end.last) ++ended_streams_;
    if (!stopped_by_writer) {
      if (end.finish_reason == engine::FinishReason::cancelled)
        throw ApiError(503, "the server is shutting down and has ended this response");
      if (end.finish_reason == engine::FinishReason::deadline)
        throw ApiError(408, "the response exceeded the time limit of the server", {}, "timeout");
      if (end.finish_reason == engine::FinishReason::out_of_memory)
        throw ApiError(503, end.error, {}, "VRAM_OOM");
      if (end.finish_reason == engine::FinishReason::step_failed)
        throw ApiError(500, fmt::format("generation failed: {}", end.error));
      // Not a 5xx, which clients retry: only another request can succeed.
      if (engine::is_error(end.finish_reason)) {
        throw ApiError(422, fmt::format("generation failed: {}", end.error), {},
                       std::string(mxgpt::engine::name(end.finish_reason)));
      }
    }
    writer_->on_end(choice, end,
                    !stopped_by_writer && end.finish_reason == engine::FinishReason::length);
  }

  std::shared_ptr<const ServedModel> served_;  // must outlive the streams
  Metrics& metrics_;
  std::vector<engine::TokenStream> streams_;
  int choices_per_stream_;
  std::unique_ptr<ResponseWriter> writer_;
  std::function<void()> on_finalized_;
  std::set<int> stopped_choices_;  // ended by their own text
  size_t ended_streams_ = 0;       // streams
  bool made_progress_ = false;     // the last process() found events
};

class BufferedResponse : public UnaryResponse {
 public:
  explicit BufferedResponse(StreamPump pump) : pump_(std::move(pump)) {}
  void on_ready(std::function<void(bool)> ready) override { pump_.on_ready(ready); }
  bool made_progress() const override { return pump_.made_progress(); }
  std::optional<HttpResponse> poll() override {
    try {
      if (pump_.process()) return std::nullopt;
      return HttpResponse{.body = pump_.writer().body()};
    } catch (const ApiError& error) {
      return pump_.writer().failure_response(error);
    }
  }

 private:
  StreamPump pump_;
};

class SseStream : public EventStream {
 public:
  explicit SseStream(StreamPump pump) : pump_(std::move(pump)) {}
  void on_ready(std::function<void(bool)> ready) override { pump_.on_ready(ready); }
  bool made_progress() const override { return pump_.made_progress(); }
  bool poll(std::string& out) override {
    try {
      const bool more = pump_.process();
      pump_.writer().drain_events(out);
      if (more) return true;
      pump_.writer().finish_events(out);
    } catch (const ApiError& error) {
      pump_.writer().drain_events(out);
      pump_.writer().fail_events(out, error);
    }
    return false;
  }

 private:
  StreamPump pump_;
};

}  // namespace

void append_event(std::string& out, std::string_view data) {
  out += "data: ";
  out += data;
  out += "\n\n";
}

void append_event(std::string& out, std::string_view name, std::string_view data) {
  out += "event: ";
  out += name;
  out += '\n';
  append_event(out, data);
}

std::string json_prefix(const json::object& object) {
  std::string text = json::serialize(object);
  text.pop_back();
  return text;
}

void ResponseWriter::fail_events(std::string& out, const ApiError& error) {
  append_event(out, error_json(error));
  append_event(out, kDone);
}

json::object Usage::json() const {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
}

std::string new_id(std::string_view prefix) {
  unsigned char bytes[12];
  RAND_bytes(bytes, sizeof bytes);
  return fmt::format("{}{:02x}", prefix, fmt::join(bytes, ""));
}

int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

HandlerResult run_completion(const RequestContext& context,
                             const std::shared_ptr<const ServedModel>& served,
                             std::vector<engine::Request> requests,
                             std::unique_ptr<ResponseWriter> writer, bool stream) {
  std::vector<engine::TokenStream> streams;
  const int choices = requests.front().choices;
  for (engine::Request& request : requests) {
    request.cache_salt = context.api.cache_salt(context.request.client);
    auto submitted = served->engine().submit(std::move(request));
    if (const auto* refusal = std::get_if<engine::Engine::Rejection>(&submitted)) {
      const bool full = *refusal == engine::Engine::Rejection::queue_full;
      ApiError error(full ? 429 : 503,
                     full ? "the server's queue is full" : "the server is shutting down", {},
                     full ? "queue_full" : "shutting_down");
      error.retry_after = full ? 1 : 30;
      throw error;
    }
    streams.push_back(std::move(std::get<engine::TokenStream>(submitted)));
  }
  StreamPump pump(served, context.api.metrics(), std::move(streams), choices, std::move(writer));
  if (stream) return std::make_unique<SseStream>(std::move(pump));
  return std::make_unique<BufferedResponse>(std::move(pump));
}

}  // namespace mxgpt::server
