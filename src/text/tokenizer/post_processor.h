// Post-processors add special tokens around the ids of a text.
#pragma once

#include <memory>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

/// A template for one text: ids before it, between repetitions, and after it. Pairs of texts are
/// not supported.
class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(std::vector<text::TokenId> before, std::vector<text::TokenId> after);

  /// Reads the `post_processor` of a tokenizer.json. A Sequence gives several, to be applied in
  /// order.
  static std::vector<PostProcessor> list_from_json(const json::Node& node);

  /// Applies the template to `ids`; inserts its special tokens only with `add_special`.
  std::vector<text::TokenId> apply(std::vector<text::TokenId> ids, bool add_special) const;

 private:
  static PostProcessor template_from_json(const json::Node& node);

  struct TemplateItem {
    bool is_text;
    std::vector<text::TokenId> special_ids;
  };
  std::vector<TemplateItem> items_;
};

}  // namespace mxgpt::tokenizer
