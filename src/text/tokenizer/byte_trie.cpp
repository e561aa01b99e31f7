#include "text/tokenizer/byte_trie.h"

#include <algorithm>

namespace mxgpt::tokenizer {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries) {
  std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  // Breadth first: each node covers the entries [begin, end), which share their first `depth`
  // bytes.
  struct Pending {
    size_t begin, end, depth;
  };
  std::vector<Pending> queue = {{0, entries.size(), 0}};
  nodes_.emplace_back();
  for (uint32_t node = 0; node < queue.size(); ++node) {
    auto [begin, end, depth] = queue[node];
    for (; begin < end && entries[begin].first.size() == depth; ++begin) {
      nodes_[node].value = entries[begin].second;
    }
    nodes_[node].first_edge = static_cast<uint32_t>(labels_.size());
    nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = entries[begin].first[depth];
      size_t next = begin + 1;
      while (next < end && entries[next].first[depth] == label) ++next;
      labels_.push_back(static_cast<uint8_t>(label));
      ++nodes_[node].edge_count;
      nodes_.emplace_back();
      queue.push_back({begin, next, depth + 1});
      begin = next;
    }
  }
}

}  // namespace mxgpt::tokenizer
