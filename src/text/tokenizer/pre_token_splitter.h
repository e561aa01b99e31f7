#pragma once

#include <cstddef>
#include <string_view>

#include "base/json.h"

namespace mxgpt::tokenizer {

/// Treatment of the matches at which a text is split.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

SplitBehavior split_behavior_from_json(const json::Node& node);

/// Converts matches to parts of the text: call match() for each in order, then finish(). Calls
/// `emit` with (begin, end) of each part; parts may be empty.
template <class Emit>
class PreTokenSplitter {
 public:
  /// With `invert`, the text between matches counts as matches.
  PreTokenSplitter(size_t size, SplitBehavior behavior, bool invert, Emit emit)
      : size_(size), behavior_(behavior), invert_(invert), emit_(emit) {}

  void match(size_t begin, size_t end) {
    if (end_ != begin) add_span(end_, begin, invert_);
    add_span(begin, end, !invert_);
    end_ = end;
  }

  void finish() {
    if (end_ != size_) add_span(end_, size_, invert_);
    if (pending_) emit_(pending_begin_, pending_end_);
  }

 private:
  void add_span(size_t begin, size_t end, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::kIsolated:
        emit_(begin, end);
        return;
      case SplitBehavior::kRemoved:
        if (!is_match) emit_(begin, end);
        return;
      case SplitBehavior::kContiguous:
        extend_or_emit(begin, end, pending_ && is_match == previous_);
        break;
      case SplitBehavior::kMergedWithPrevious:
        extend_or_emit(begin, end, pending_ && is_match && !previous_);
        break;
      case SplitBehavior::kMergedWithNext:
        extend_or_emit(begin, end, pending_ && !is_match && previous_);
        break;
    }
    previous_ = is_match;
  }

  /// Holds a part back: the next one may join it.
  void extend_or_emit(size_t begin, size_t end, bool joins) {
    if (pending_ && !joins) emit_(pending_begin_, pending_end_);
    if (!joins) pending_begin_ = begin;
    pending_end_ = end;
    pending_ = true;
  }

  size_t size_;
  SplitBehavior behavior_;
  bool invert_;
  Emit emit_;
  size_t end_ = 0;
  bool pending_ = false, previous_ = false;
  size_t pending_begin_ = 0, pending_end_ = 0;
};

}  // namespace mxgpt::tokenizer
