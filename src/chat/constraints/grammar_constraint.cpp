#include "chat/constraints/grammar_constraint.h"

#include <algorithm>
#include <utility>

#include "chat/constraints/token_mask.h"

namespace mxgpt::chat {

namespace {

class GrammarConstraint : public engine::TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<const Grammar> grammar, std::vector<text::TokenId> stop_tokens,
                    std::optional<text::TokenId> reasoning_end)
      : grammar_(std::move(grammar)),
        matcher_(grammar_->make_matcher()),
        stop_tokens_(std::move(stop_tokens)),
        reasoning_end_(reasoning_end) {}

  bool prepare() override { return reasoning_end_ || matcher_->prepare(); }
  bool is_pending() const override { return !reasoning_end_ && matcher_->is_pending(); }

  bool mask(std::span<uint32_t> allowed) override {
    if (reasoning_end_) return false;
    std::fill(allowed.begin(), allowed.end(), 0);
    matcher_->fill_mask(allowed);
    if (!matcher_->is_complete()) return true;
    for (const text::TokenId token : stop_tokens_) allow(allowed, token);
    return true;
  }

  bool accept(int32_t token) override {
    if (reasoning_end_) {
      if (token == *reasoning_end_) reasoning_end_.reset();
      return true;
    }
    if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end())
      return false;
    matcher_->accept(token);
    return true;
  }

 private:
  std::shared_ptr<const Grammar> grammar_;
  std::unique_ptr<Grammar::Matcher> matcher_;
  std::vector<text::TokenId> stop_tokens_;
  std::optional<text::TokenId> reasoning_end_;
};

}  // namespace

std::unique_ptr<engine::TokenConstraint> make_grammar_constraint(
    std::shared_ptr<const Grammar> grammar, std::vector<text::TokenId> stop_tokens,
    std::optional<text::TokenId> reasoning_end) {
  return std::make_unique<GrammarConstraint>(std::move(grammar), std::move(stop_tokens),
                                             reasoning_end);
}

}  // namespace mxgpt::chat
