#include "server/generation.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <chrono>
#include <set>
#include <utility>

namespace mxgpt::server {

namespace {

/// The engine's streams of one answer, and the writer that they feed.
class Pump {
 public:
  Pump(std::shared_ptr<const Served> served, Metrics& metrics, std::vector<TokenStream> streams,
       int choices, std::unique_ptr<AnswerWriter> writer)
      : served_(std::move(served)),
        metrics_(metrics),
        streams_(std::move(streams)),
        choices_(choices),
        writer_(std::move(writer)) {}

  void on_ready(const std::function<void(bool)>& ready) {
    settled_ = [ready] { ready(true); };
    for (TokenStream& stream : streams_) stream.on_ready(ready);
  }

  /// Takes what has come; false when all has ended. Throws ApiError if the answer failed.
  bool step() {
    flows_ = false;
    for (size_t i = 0; i < streams_.size(); ++i) {
      for (StreamEvent& event : streams_[i].poll()) {
        flows_ = true;
        std::visit([&](auto& e) { take(static_cast<int>(i), e); }, event);
      }
    }
    return ended_ < streams_.size() || !writer_->settle(settled_);
  }

  bool flows() const { return flows_; }
  AnswerWriter& writer() { return *writer_; }

 private:
  void take(int request, const PromptToken& token) { writer_->prompt_token(request, token); }

  void take(int request, const ChoiceToken& token) {
    const int choice = request * choices_ + token.choice;
    if (over_.contains(choice) || writer_->token(choice, token)) return;
    over_.insert(choice);
    streams_[request].cancel(token.choice);
  }

  void take(int request, const ChoiceEnd& end) {
    const int choice = request * choices_ + end.choice;
    const bool by_itself = over_.contains(choice);
    metrics_.record(end);
    if (end.last) ++ended_;
    if (!by_itself) {
      if (end.finish == Finish::cancelled)
        throw ApiError(503, "the server is shutting down and has ended this answer");
      if (end.finish == Finish::deadline)
        throw ApiError(408, "the answer took longer than the server allows", {}, "timeout");
      if (end.finish == Finish::no_memory) throw ApiError(503, end.what, {}, "VRAM_OOM");
      if (end.finish == Finish::failed)
        throw ApiError(500, fmt::format("the model failed: {}", end.what));
      // The request, not the server, is what a client can change: not a 5xx, which clients repeat.
      if (is_error(end.finish)) {
        throw ApiError(422, fmt::format("the model broke off: {}", end.what), {},
                       std::string(mxgpt::name(end.finish)));
      }
    }
    writer_->end(choice, end, !by_itself && end.finish == Finish::length);
  }

  std::shared_ptr<const Served> served_;  // outlives the streams
  Metrics& metrics_;
  std::vector<TokenStream> streams_;
  int choices_;  // of each stream
  std::unique_ptr<AnswerWriter> writer_;
  std::function<void()> settled_;
  std::set<int> over_;  // choices that ended by what they say
  size_t ended_ = 0;    // streams
  bool flows_ = false;  // the last step took something
};

class Whole : public PendingResponse {
 public:
  explicit Whole(Pump pump) : pump_(std::move(pump)) {}
  void on_ready(std::function<void(bool)> ready) override { pump_.on_ready(ready); }
  bool flows() const override { return pump_.flows(); }
  std::optional<HttpResponse> poll() override {
    try {
      if (pump_.step()) return std::nullopt;
      return HttpResponse{.body = pump_.writer().whole()};
    } catch (const ApiError& error) {
      return pump_.writer().failure(error);
    }
  }

 private:
  Pump pump_;
};

class Events : public EventStream {
 public:
  explicit Events(Pump pump) : pump_(std::move(pump)) {}
  void on_ready(std::function<void(bool)> ready) override { pump_.on_ready(ready); }
  bool flows() const override { return pump_.flows(); }
  bool poll(std::string& out) override {
    try {
      const bool more = pump_.step();
      pump_.writer().take_events(out);
      if (more) return true;
      pump_.writer().finish_events(out);
    } catch (const ApiError& error) {
      pump_.writer().take_events(out);
      pump_.writer().fail_events(out, error);
    }
    return false;
  }

 private:
  Pump pump_;
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

std::string open_json(const json::object& object) {
  std::string text = json::serialize(object);
  text.pop_back();
  return text;
}

void AnswerWriter::fail_events(std::string& out, const ApiError& error) {
  append_event(out, error_json(error));
  append_event(out, kDone);
}

json::object Usage::json() const {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", answer},
          {"total_tokens", prompt + answer},
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

Answer generate(const std::shared_ptr<const Served>& served, Metrics& metrics,
                std::vector<Request> requests, std::unique_ptr<AnswerWriter> writer, bool stream) {
  std::vector<TokenStream> streams;
  const int choices = requests.front().choices;
  for (Request& request : requests) {
    auto submitted = served->engine().submit(std::move(request));
    if (const auto* refusal = std::get_if<Engine::Refusal>(&submitted)) {
      const bool full = *refusal == Engine::Refusal::queue_full;
      ApiError error(full ? 429 : 503,
                     full ? "the server's queue is full" : "the server is shutting down", {},
                     full ? "queue_full" : "shutting_down");
      error.retry_after = full ? 1 : 30;
      throw error;
    }
    streams.push_back(std::move(std::get<TokenStream>(submitted)));
  }
  Pump pump(served, metrics, std::move(streams), choices, std::move(writer));
  if (stream) return std::make_unique<Events>(std::move(pump));
  return std::make_unique<Whole>(std::move(pump));
}

}  // namespace mxgpt::server
