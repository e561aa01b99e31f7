// What a client asks of the engine, and what comes back: a Request goes in, its events come out of
// a TokenStream.
//
// Who owns what: the engine keeps the Request until it ends, constraints included; it calls these
// from its own thread only. The TokenStream is the client's end: letting go of it cancels.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "engine/sampler.h"

namespace mxgpt::engine {

/// What a choice may say next: a grammar, a tool's schema, the headers of Harmony. Made for one
/// choice and used by the engine's thread alone. What it throws ends its own choice, with an error.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  /// Sets `allowed`, bit t % 32 of word t / 32 for token t, [⌈vocabulary / 32⌉]. False, and
  /// nothing need be set, if the next token is free. With no token allowed the choice ends with
  /// Finish::constraint.
  virtual bool mask(std::span<uint32_t> allowed) = 0;

  /// Makes the next mask() return at once. False if that takes longer than the engine may wait: the
  /// mask is then computed on another thread, and the choice samples nothing until prepare()
  /// returns true.
  virtual bool prepare() { return true; }
  /// Whether that thread is still computing; the choice is not scheduled meanwhile.
  virtual bool is_pending() const { return false; }

  /// The choice goes on with this token. Asked for every token, free or not. False ends the choice
  /// with Finish::stop, this token included.
  virtual bool accept(int32_t token) = 0;
};

/// Thrown by mask() when the mask takes too long; ends the choice with
/// FinishReason::grammar_timeout.
class ConstraintTimeout : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Request {
  std::vector<int32_t> prompt;        ///< at least one token
  std::optional<int64_t> max_tokens;  ///< of each choice; absent: until the context is full; 0:
                                      ///< only the prompt is computed
  SamplingParams sampling;
  int choices = 1;                   ///< "n": answers to the one prompt, each of its own seed
  std::vector<int32_t> stop_tokens;  ///< end a choice; delivered as its last token

  /// Log probabilities of each token drawn, under the model's own distribution, before bias,
  /// penalties, constraint and temperature; with this many of the likeliest. Absent: none.
  std::optional<int> top_logprobs;
  /// The same of the prompt's tokens but the first, as PromptToken events before all others. The
  /// prompt is then computed anew, whatever is cached.
  bool prompt_logprobs = false;

  std::vector<std::unique_ptr<TokenConstraint>> constraints;  ///< [choices], or empty

  /// Goes before requests of lower priority that came fewer than kPriorityStep requests a level
  /// earlier: so a stream of urgent requests delays others, and starves none. -100 to 100.
  int priority = 0;
  std::optional<std::chrono::steady_clock::time_point> deadline;  ///< then every choice ends

  /// Prompts share cached work with those of the same salt only (a tenant's name, for instance).
  std::string cache_salt;
};

inline constexpr int64_t kPriorityStride = 64;
inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxTopLogprobs = 20;

/// Why a choice ended.
enum class FinishReason {
  stop,             ///< a stop token, or its constraint said so
  length,           ///< max_tokens, or the context is full
  cancelled,        ///< by the client, or by Engine::drain
  deadline,         ///< of the request
  degenerate,       ///< the logits were not finite, or the answer went round in a short circle
  constraint,       ///< it allowed no token, or threw
  grammar_timeout,  ///< its constraint threw ConstraintTimeout
  slow_reader,      ///< EngineOptions::stream_events waited to be read
  step_failed,      ///< the step threw
  out_of_memory,    ///< of a GPU is left, whatever is given up; what it says begins with VRAM_OOM
};
inline bool is_error(FinishReason reason) {
  return reason >= FinishReason::degenerate;
}
std::string_view name(FinishReason reason);

struct TokenLogprob {
  int32_t token;
  float logprob;
};

/// A token of a choice.
struct ChoiceToken {
  int choice = 0;
  int32_t token = 0;
  float logprob = 0;              ///< if asked for
  std::vector<TokenLogprob> top;  ///< likeliest first
};

/// A token of the prompt, scored; position 1 and on.
struct PromptToken {
  int64_t position = 0;
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

/// A choice has ended.
struct ChoiceEnd {
  int choice = 0;
  FinishReason finish_reason = FinishReason::stop;
  std::string error;           ///< of an error, for a person
  int64_t prompt_tokens = 0;   ///< of the request
  int64_t cached_tokens = 0;   ///< of them, found in the cache by this choice
  int64_t output_tokens = 0;   ///< of this choice
  double queue_seconds = 0;    ///< from submit until first computed
  double prefill_seconds = 0;  ///< from there until its first token
  double decode_seconds = 0;   ///< from there until its last
  bool last = false;           ///< all choices have ended: nothing comes after this
};

using StreamEvent = std::variant<ChoiceToken, PromptToken, ChoiceEnd>;

/// Shared by the two ends of a stream; see token_stream.h.
class StreamState;

/// The client's end of a request. Any one thread at a time may use it. Events wait in it until they
/// are read; the engine never waits for a reader, and ends a request with Finish::slow_reader when
/// too many have gathered.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<StreamState> state);
  TokenStream(TokenStream&&) noexcept;
  TokenStream& operator=(TokenStream&&) noexcept;
  ~TokenStream();  ///< cancels what has not ended

  /// All events there are, oldest first; may be none. Nothing comes after ChoiceEnd::last.
  std::vector<StreamEvent> poll();
  /// Waits for at least one; none only after `until`, or when nothing can come any more.
  std::vector<StreamEvent> wait(std::optional<std::chrono::steady_clock::time_point> until = {});

  /// Calls `ready` from the engine's thread when events arrive and none were waiting, and with the
  /// last one in any case; and at once if some are there. `ended`: nothing comes after them. It
  /// must return quickly, throw nothing and not touch this stream; asio::post is what it is for.
  /// After this stream is gone it is not called any more.
  void on_ready(std::function<void(bool ended)> ready);

  /// Ends all choices, or one: in any state, and without waiting. The engine frees what they hold
  /// before its next step; their ends come as events. After an end it does nothing.
  void cancel();
  void cancel(int choice);

 private:
  std::shared_ptr<StreamState> state_;
};

}  // namespace mxgpt::engine
