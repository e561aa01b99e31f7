#include "chat/constraints/harmony_constraint.h"

#include <algorithm>
#include <utility>

#include "chat/constraints/token_mask.h"

namespace mxgpt::chat {

HarmonyConstraintSpec::HarmonyConstraintSpec(
    std::shared_ptr<const harmony::HarmonyEncoding> encoding, int64_t vocabulary, Options options)
    : encoding_(std::move(encoding)), options_(std::move(options)) {
  const text::Tokenizer& tokenizer = *encoding_->tokenizer();
  text_mask_.resize(static_cast<size_t>((vocabulary + 31) / 32));
  const auto known = std::min<int64_t>(vocabulary, tokenizer.vocab_size());
  for (text::TokenId token = 0; token < known; ++token) {
    if (!tokenizer.is_special(token) && !tokenizer.id_to_token(token).empty())
      allow(text_mask_, token);
  }
  const harmony::ControlTokens& control = encoding_->control_tokens();
  opening_ = encode("assistant");
  opening_.insert(opening_.begin(), control.start);

  using Tokens = std::vector<text::TokenId>;
  const Tokens channel{control.channel}, message{control.message};
  Tokens json = encode(" ");
  json.push_back(control.constrain);
  for (const text::TokenId token : encode("json")) json.push_back(token);
  add_header({channel, encode("analysis"), message}, {Kind::analysis, nullptr});
  if (!options_.call_required) {
    const Outcome final_outcome{Kind::final, options_.final_grammar.get()};
    add_header({channel, encode("final"), message}, final_outcome);
    if (options_.final_grammar)
      add_header({channel, encode("final"), json, message}, final_outcome);
    if (!options_.functions.empty())
      add_header({channel, encode("commentary"), message}, {Kind::commentary, nullptr});
  }
  for (const Function& function : options_.functions) {
    const Tokens to = encode(" to=functions." + function.name);
    const Outcome call_outcome{Kind::tool_call, function.arguments.get()};
    for (const Tokens& type : {json, Tokens()}) {
      add_header({channel, encode("commentary"), to, type, message}, call_outcome);
      add_header({to, channel, encode("commentary"), type, message}, call_outcome);
    }
  }
}

std::vector<text::TokenId> HarmonyConstraintSpec::encode(const std::string& text) const {
  return encoding_->tokenizer()->encode(text, {.parse_special = false});
}

void HarmonyConstraintSpec::add_header(const std::vector<std::vector<text::TokenId>>& parts,
                                       Outcome outcome) {
  int node = 0;
  for (const auto& part : parts) {
    for (const text::TokenId token : part) {
      const auto [found, is_new] =
          nodes_[node].next.try_emplace(token, static_cast<int>(nodes_.size()));
      node = found->second;
      if (is_new) nodes_.emplace_back();
    }
  }
  nodes_[node].outcome = outcome;
}

class HarmonyConstraint : public engine::TokenConstraint {
 public:
  explicit HarmonyConstraint(std::shared_ptr<const HarmonyConstraintSpec> spec)
      : spec_(std::move(spec)) {}

  bool prepare() override { return !matcher_ || matcher_->prepare(); }
  bool is_pending() const override { return matcher_ && matcher_->is_pending(); }

  bool mask(std::span<uint32_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0);
    switch (state_) {
      case State::opening:
        allow(allowed, spec_->opening_[opening_position_]);
        break;
      case State::header:
        for (const auto& [token, next] : spec_->nodes_[node_].next)
          if (can_start_message(next)) allow(allowed, token);
        break;
      case State::text:
        mask_text(allowed);
        break;
    }
    return true;
  }

  bool accept(int32_t token) override {
    switch (state_) {
      case State::opening:
        if (++opening_position_ == spec_->opening_.size()) {
          state_ = State::header;
          node_ = 0;
        }
        return true;
      case State::header: {
        node_ = spec_->nodes_[node_].next.at(token);
        if (const auto& outcome = spec_->nodes_[node_].outcome) {
          state_ = State::text;
          kind_ = outcome->kind;
          matcher_ = outcome->grammar ? outcome->grammar->make_matcher() : nullptr;
        }
        return true;
      }
      case State::text: {
        const harmony::ControlTokens& control = spec_->encoding_->control_tokens();
        if (token == control.end || token == control.return_ || token == control.call) {
          if (kind_ == Kind::final || kind_ == Kind::tool_call) return false;
          state_ = State::opening;
          opening_position_ = 0;
        } else if (matcher_) {
          matcher_->accept(token);
        }
        return true;
      }
    }
    return true;
  }

 private:
  using Kind = HarmonyConstraintSpec::Kind;
  enum class State { opening, header, text };

  /// Whether a header that ends in a message of another kind than the last begins here.
  bool can_start_message(int number) const {
    const HarmonyConstraintSpec::Node& node = spec_->nodes_[number];
    if (node.outcome) return node.outcome->kind != kind_;
    return std::any_of(node.next.begin(), node.next.end(),
                       [&](const auto& next) { return can_start_message(next.second); });
  }

  void mask_text(std::span<uint32_t> allowed) {
    const harmony::ControlTokens& control = spec_->encoding_->control_tokens();
    if (matcher_) {
      matcher_->fill_mask(allowed);
      for (size_t i = 0; i < allowed.size(); ++i) allowed[i] &= spec_->text_mask_[i];
      if (!matcher_->is_complete()) return;
    } else {
      std::copy(spec_->text_mask_.begin(), spec_->text_mask_.end(), allowed.begin());
    }
    // <|end|> after an answer or a call is not quite the format, but some fine-tunes write it.
    allow(allowed, control.end);
    if (kind_ == Kind::final) allow(allowed, control.return_);
    if (kind_ == Kind::tool_call) allow(allowed, control.call);
  }

  std::shared_ptr<const HarmonyConstraintSpec> spec_;
  State state_ = State::header;
  size_t opening_position_ = 0;  // tokens of the opening
  int node_ = 0;                 // of the header
  std::optional<Kind> kind_;     // of the last message
  std::unique_ptr<Grammar::Matcher> matcher_;
};

std::unique_ptr<engine::TokenConstraint> make_harmony_constraint(
    std::shared_ptr<const HarmonyConstraintSpec> spec) {
  return std::make_unique<HarmonyConstraint>(std::move(spec));
}

}  // namespace mxgpt::chat
