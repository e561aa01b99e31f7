#include "text/chat/reasoning_parser.h"

#include <algorithm>
#include <utility>

namespace mxgpt::text {

namespace {

constexpr std::string_view kThinkStart = "<think>", kThinkEnd = "</think>";

void drop_newlines(std::string& text) {
  text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
}

}  // namespace

ReasoningParser::Delta ReasoningParser::push(std::string_view text) {
  pending_ += text;
  Delta out;
  if (state_ == State::kStart) {
    drop_newlines(pending_);
    if (pending_.size() < kThinkStart.size() && kThinkStart.starts_with(pending_)) return out;
    state_ = pending_.starts_with(kThinkStart) ? State::kReasoning : State::kContent;
    if (state_ == State::kReasoning) pending_.erase(0, kThinkStart.size());
  }
  if (state_ == State::kReasoning) {
    const size_t end = pending_.find(kThinkEnd);
    size_t ready_bytes = end;
    if (end == std::string::npos) {
      ready_bytes = pending_.size() - std::min(pending_.size(), kThinkEnd.size() - 1);
      while (!kThinkEnd.starts_with(std::string_view(pending_).substr(ready_bytes))) ++ready_bytes;
    }
    out.reasoning = pending_.substr(0, ready_bytes);
    pending_.erase(0, end == std::string::npos ? ready_bytes : end + kThinkEnd.size());
    if (end == std::string::npos) return out;
    state_ = State::kAfterReasoning;
  }
  if (state_ == State::kAfterReasoning) {
    drop_newlines(pending_);
    if (pending_.empty()) return out;
    state_ = State::kContent;
  }
  out.content = std::exchange(pending_, {});
  return out;
}

ReasoningParser::Delta ReasoningParser::finish() {
  Delta out;
  (state_ == State::kReasoning ? out.reasoning : out.content) = std::exchange(pending_, {});
  return out;
}

}  // namespace mxgpt::text
