#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace mxgpt {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
  for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
}

std::string StopStrings::push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at >= first) continue;
    first = at;
    found_ = stop;
  }
  if (first != std::string::npos) {
    stopped_ = true;
    held_.resize(first);
    return std::exchange(held_, {});
  }
  // Held back: the earliest suffix that begins a stop string.
  size_t keep = held_.size();
  for (size_t at = held_.size() - std::min(held_.size(), longest_ ? longest_ - 1 : 0);
       at < held_.size(); ++at) {
    const std::string_view suffix = std::string_view(held_).substr(at);
    if (std::any_of(stops_.begin(), stops_.end(),
                    [&](const std::string& s) { return s.starts_with(suffix); })) {
      keep = at;
      break;
    }
  }
  std::string certain = held_.substr(0, keep);
  held_.erase(0, keep);
  return certain;
}

std::string StopStrings::finish() {
  return stopped_ ? std::string() : std::exchange(held_, {});
}

}  // namespace mxgpt
