#include "text/thinking.h"

#include <algorithm>
#include <utility>

namespace mxgpt {

namespace {

constexpr std::string_view kBegin = "<think>", kEnd = "</think>";

void drop_newlines(std::string& text) {
  text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
}

}  // namespace

ThinkingSplitter::Piece ThinkingSplitter::push(std::string_view piece) {
  held_ += piece;
  Piece out;
  if (state_ == State::kStart) {
    drop_newlines(held_);
    if (held_.size() < kBegin.size() && kBegin.starts_with(held_)) return out;
    state_ = held_.starts_with(kBegin) ? State::kThinking : State::kAnswer;
    if (state_ == State::kThinking) held_.erase(0, kBegin.size());
  }
  if (state_ == State::kThinking) {
    const size_t end = held_.find(kEnd);
    size_t certain = end;
    if (end == std::string::npos) {
      certain = held_.size() - std::min(held_.size(), kEnd.size() - 1);
      while (!kEnd.starts_with(std::string_view(held_).substr(certain))) ++certain;
    }
    out.thinking = held_.substr(0, certain);
    held_.erase(0, end == std::string::npos ? certain : end + kEnd.size());
    if (end == std::string::npos) return out;
    state_ = State::kBehind;
  }
  if (state_ == State::kBehind) {
    drop_newlines(held_);
    if (held_.empty()) return out;
    state_ = State::kAnswer;
  }
  out.answer = std::exchange(held_, {});
  return out;
}

ThinkingSplitter::Piece ThinkingSplitter::finish() {
  Piece out;
  (state_ == State::kThinking ? out.thinking : out.answer) = std::exchange(held_, {});
  return out;
}

}  // namespace mxgpt
