#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace mxgpt::text {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
  for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  pending_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = pending_.find(stop);
    if (at >= first) continue;
    first = at;
    matched_ = stop;
  }
  if (first != std::string::npos) {
    stopped_ = true;
    pending_.resize(first);
    return std::exchange(pending_, {});
  }
  // Hold back the longest suffix that begins a stop string.
  size_t keep = pending_.size();
  for (size_t at = pending_.size() - std::min(pending_.size(), longest_ ? longest_ - 1 : 0);
       at < pending_.size(); ++at) {
    const std::string_view suffix = std::string_view(pending_).substr(at);
    if (std::any_of(stops_.begin(), stops_.end(),
                    [&](const std::string& s) { return s.starts_with(suffix); })) {
      keep = at;
      break;
    }
  }
  std::string ready = pending_.substr(0, keep);
  pending_.erase(0, keep);
  return ready;
}

std::string StopStrings::finish() {
  return stopped_ ? std::string() : std::exchange(pending_, {});
}

}  // namespace mxgpt::text
