// Requests to the engine, and the events that come back through a TokenStream.
//
// The engine owns the Request and its constraints until all choices finish; it uses them on its own
// thread. The client owns the TokenStream; destroying it cancels the request.
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

/// Restricts the tokens of one choice: a grammar, the schema of a tool, Harmony headers. Used on
/// the engine thread only. An exception ends its choice with an error.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  /// Sets the bits of allowed tokens: bit t % 32 of word t / 32 for token t, [⌈vocabulary / 32⌉].
  /// Returns false, with `allowed` unspecified, if any token is allowed. If no bit is set, the
  /// choice ends with FinishReason::constraint.
  virtual bool mask(std::span<uint32_t> allowed) = 0;

  /// Makes the next mask() return at once. False if that takes longer than the engine may wait: the
  /// mask is then computed on another thread, and the choice samples nothing until prepare()
  /// returns true.
  virtual bool prepare() { return true; }
  /// Whether that thread is still computing; the choice is not scheduled meanwhile.
  virtual bool is_pending() const { return false; }

  /// Called for every sampled token. Returns false to end the choice with FinishReason::stop after
  /// this token.
  virtual bool accept(int32_t token) = 0;
};

/// Thrown by mask() when the mask takes too long; ends the choice with
/// FinishReason::grammar_timeout.
class ConstraintTimeout : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Request {
  std::vector<int32_t> prompt;  ///< at least one token
  std::optional<int64_t>
      max_tokens;  ///< per choice; absent: until the context is full; 0: prompt only
  SamplingParams sampling;
  int choices = 1;                   ///< "n": independent outputs for the prompt
  std::vector<int32_t> stop_tokens;  ///< end a choice and are delivered as its last token

  /// Report the log probability of each sampled token and of this many top tokens, before bias,
  /// penalties, constraint and temperature. Absent: report none.
  std::optional<int> top_logprobs;
  /// Report the same for all prompt tokens but the first, as PromptToken events before all others.
  /// The prompt is then recomputed even if it is cached.
  bool prompt_logprobs = false;

  std::vector<std::unique_ptr<TokenConstraint>> constraints;  ///< [choices], or empty

  /// -100 to 100. Each level moves the request ahead of kPriorityStride earlier requests, so urgent
  /// requests delay others but never starve them.
  int priority = 0;
  std::optional<std::chrono::steady_clock::time_point> deadline;  ///< ends every choice

  /// Prompts share cached pages only with requests of the same salt, such as a tenant name.
  std::string cache_salt;
};

inline constexpr int64_t kPriorityStride = 64;
inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxTopLogprobs = 20;

/// Why a choice finished.
enum class FinishReason {
  stop,             ///< a stop token, or the end of the constraint
  length,           ///< max_tokens reached, or context full
  cancelled,        ///< by the client, or by Engine::drain
  deadline,         ///< deadline of the request
  degenerate,       ///< non-finite logits, or output that repeats a short cycle
  constraint,       ///< the constraint allowed no token, or threw
  grammar_timeout,  ///< the constraint threw ConstraintTimeout
  slow_reader,      ///< EngineOptions::max_stream_events are unread
  step_failed,      ///< the step threw
  out_of_memory,    ///< device memory exhausted after all fallbacks; the error begins with VRAM_OOM
};
inline bool is_error(FinishReason reason) {
  return reason >= FinishReason::degenerate;
}
std::string_view name(FinishReason reason);

struct TokenLogprob {
  int32_t token;
  float logprob;
};

/// A sampled token.
struct ChoiceToken {
  int choice = 0;
  int32_t token = 0;
  float logprob = 0;              ///< if requested
  std::vector<TokenLogprob> top;  ///< most probable first
};

/// The score of a prompt token, from position 1.
struct PromptToken {
  int64_t position = 0;
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

/// The end of a choice.
struct ChoiceEnd {
  int choice = 0;
  FinishReason finish_reason = FinishReason::stop;
  std::string error;           ///< human-readable, if finish_reason is an error
  int64_t prompt_tokens = 0;   ///< of the request
  int64_t cached_tokens = 0;   ///< prompt tokens found in the prefix cache
  int64_t output_tokens = 0;   ///< of this choice
  double queue_seconds = 0;    ///< from submit() to the first step
  double prefill_seconds = 0;  ///< from there to the first token
  double decode_seconds = 0;   ///< from there to the last token
  bool last = false;           ///< the last event of the request
};

using StreamEvent = std::variant<ChoiceToken, PromptToken, ChoiceEnd>;

/// State shared by both ends of a stream; see token_stream.h.
class StreamState;

/// The client's end of a request. Not thread-safe. Events are buffered until they are read. The
/// engine never blocks on a reader; it ends a request with FinishReason::slow_reader if too many
/// events are unread.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<StreamState> state);
  TokenStream(TokenStream&&) noexcept;
  TokenStream& operator=(TokenStream&&) noexcept;
  ~TokenStream();  ///< cancels unfinished choices

  /// All buffered events, oldest first; may be empty. ChoiceEnd::last is the last event.
  std::vector<StreamEvent> poll();
  /// Waits for at least one event. Empty only after `until`, or after the last event.
  std::vector<StreamEvent> wait(std::optional<std::chrono::steady_clock::time_point> until = {});

  /// Calls `ready` on the engine thread when the buffer becomes non-empty and at the last event,
  /// and immediately if events are buffered. `ended`: the last event is buffered. The callback must
  /// return quickly, not throw and not use this stream; use asio::post. It is not called after the
  /// stream is destroyed.
  void on_ready(std::function<void(bool ended)> ready);

  /// Cancels all choices, or one, without waiting. The engine releases their resources before its
  /// next step and delivers their ends as events. No effect on finished choices.
  void cancel();
  void cancel(int choice);

 private:
  std::shared_ptr<StreamState> state_;
};

}  // namespace mxgpt::engine
