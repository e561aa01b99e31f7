#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace mxgpt::tokenizer {

/// Finds all keys that are prefixes of a text.
class ByteTrie {
 public:
  ByteTrie() : ByteTrie(std::vector<std::pair<std::string_view, int32_t>>{}) {}
  /// Values are non-negative. The last of equal keys wins; empty keys are ignored.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries);

  /// Calls found(length, value) for each key that is a prefix of `text`, shortest first.
  template <class Found>
  void for_each_prefix(std::string_view text, Found&& found) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<uint8_t>(text[i]));
      if (node == kNoNode) return;
      if (nodes_[node].value >= 0) found(i + 1, nodes_[node].value);
    }
  }

  bool empty() const { return nodes_[0].edge_count == 0; }
  bool starts_key(uint8_t byte) const { return child(0, byte) != kNoNode; }

 private:
  static constexpr uint32_t kNoNode = UINT32_MAX;

  /// Children are contiguous: the k-th edge leads to node first_child + k.
  struct Node {
    uint32_t first_edge = 0;  ///< into labels_
    uint32_t first_child = 0;
    uint16_t edge_count = 0;
    int32_t value = -1;  ///< of the key that ends here; -1: none
  };

  uint32_t child(uint32_t node, uint8_t byte) const {
    const Node& n = nodes_[node];
    uint32_t low = 0, high = n.edge_count;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if (labels_[n.first_edge + middle] < byte)
        low = middle + 1;
      else
        high = middle;
    }
    return low < n.edge_count && labels_[n.first_edge + low] == byte ? n.first_child + low
                                                                     : kNoNode;
  }

  std::vector<Node> nodes_;
  std::vector<uint8_t> labels_;  ///< edge labels, ascending per node
};

}  // namespace mxgpt::tokenizer
