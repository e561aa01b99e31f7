#include "server/harmony_guard.h"

#include <algorithm>
#include <utility>

namespace mxgpt::server {

namespace {

void allow(std::span<uint32_t> allowed, TokenId token) {
  allowed[static_cast<size_t>(token) / 32] |= uint32_t{1} << (token % 32);
}

}  // namespace

HarmonyRules::HarmonyRules(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                           int64_t vocabulary, Options options)
    : encoding_(std::move(encoding)), options_(std::move(options)) {
  const Tokenizer& tokenizer = *encoding_->tokenizer();
  text_.resize(static_cast<size_t>((vocabulary + 31) / 32));
  const auto known = std::min<int64_t>(vocabulary, tokenizer.vocab_size());
  for (TokenId token = 0; token < known; ++token) {
    if (!tokenizer.is_special(token) && !tokenizer.id_to_token(token).empty()) allow(text_, token);
  }
  const harmony::ControlTokens& control = encoding_->control();
  opening_ = encode("assistant");
  opening_.insert(opening_.begin(), control.start);

  using Tokens = std::vector<TokenId>;
  const Tokens channel{control.channel}, message{control.message};
  Tokens json = encode(" ");
  json.push_back(control.constrain);
  for (const TokenId token : encode("json")) json.push_back(token);
  add({channel, encode("analysis"), message}, {Kind::analysis, nullptr});
  if (!options_.must_call) {
    const Outcome final_message{Kind::final, options_.final_text.get()};
    add({channel, encode("final"), message}, final_message);
    if (options_.final_text) add({channel, encode("final"), json, message}, final_message);
    if (!options_.functions.empty())
      add({channel, encode("commentary"), message}, {Kind::preamble, nullptr});
  }
  for (const Function& function : options_.functions) {
    const Tokens to = encode(" to=functions." + function.name);
    const Outcome call{Kind::call, function.arguments.get()};
    for (const Tokens& type : {json, Tokens()}) {
      add({channel, encode("commentary"), to, type, message}, call);
      add({to, channel, encode("commentary"), type, message}, call);
    }
  }
}

std::vector<TokenId> HarmonyRules::encode(const std::string& text) const {
  return encoding_->tokenizer()->encode(text, {.parse_special = false});
}

void HarmonyRules::add(const std::vector<std::vector<TokenId>>& parts, Outcome outcome) {
  int node = 0;
  for (const auto& part : parts) {
    for (const TokenId token : part) {
      const auto [found, is_new] =
          nodes_[node].next.try_emplace(token, static_cast<int>(nodes_.size()));
      node = found->second;
      if (is_new) nodes_.emplace_back();
    }
  }
  nodes_[node].outcome = outcome;
}

class HarmonyGuard : public TokenConstraint {
 public:
  explicit HarmonyGuard(std::shared_ptr<const HarmonyRules> rules) : rules_(std::move(rules)) {}

  bool mask(std::span<uint32_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0);
    switch (state_) {
      case State::opening:
        allow(allowed, rules_->opening_[opened_]);
        break;
      case State::header:
        for (const auto& [token, next] : rules_->nodes_[node_].next)
          if (leads_on(next)) allow(allowed, token);
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
        if (++opened_ == rules_->opening_.size()) {
          state_ = State::header;
          node_ = 0;
        }
        return true;
      case State::header: {
        node_ = rules_->nodes_[node_].next.at(token);
        if (const auto& outcome = rules_->nodes_[node_].outcome) {
          state_ = State::text;
          kind_ = outcome->kind;
          text_ = outcome->grammar ? outcome->grammar->begin() : nullptr;
        }
        return true;
      }
      case State::text: {
        const harmony::ControlTokens& control = rules_->encoding_->control();
        if (token == control.end || token == control.return_ || token == control.call) {
          if (kind_ == Kind::final || kind_ == Kind::call) return false;
          state_ = State::opening;
          opened_ = 0;
        } else if (text_) {
          text_->accept(token);
        }
        return true;
      }
    }
    return true;
  }

 private:
  using Kind = HarmonyRules::Kind;
  enum class State { opening, header, text };

  /// Whether a header that ends in a message of another kind than the last begins here.
  bool leads_on(int number) const {
    const HarmonyRules::Node& node = rules_->nodes_[number];
    if (node.outcome) return node.outcome->kind != kind_;
    return std::any_of(node.next.begin(), node.next.end(),
                       [&](const auto& next) { return leads_on(next.second); });
  }

  void mask_text(std::span<uint32_t> allowed) {
    const harmony::ControlTokens& control = rules_->encoding_->control();
    if (text_) {
      text_->mask(allowed);
      for (size_t i = 0; i < allowed.size(); ++i) allowed[i] &= rules_->text_[i];
      if (!text_->may_end()) return;
    } else {
      std::copy(rules_->text_.begin(), rules_->text_.end(), allowed.begin());
    }
    // <|end|> after an answer or a call is not quite the format, but some fine-tunes write it.
    allow(allowed, control.end);
    if (kind_ == Kind::final) allow(allowed, control.return_);
    if (kind_ == Kind::call) allow(allowed, control.call);
  }

  std::shared_ptr<const HarmonyRules> rules_;
  State state_ = State::header;
  size_t opened_ = 0;         // tokens of the opening
  int node_ = 0;              // of the header
  std::optional<Kind> kind_;  // of the last message
  std::unique_ptr<TextGrammar::State> text_;
};

namespace {

class PlainGuard : public TokenConstraint {
 public:
  PlainGuard(std::shared_ptr<const TextGrammar> grammar, std::vector<TokenId> stop_tokens,
             std::optional<TokenId> free_until)
      : grammar_(std::move(grammar)),
        state_(grammar_->begin()),
        stop_tokens_(std::move(stop_tokens)),
        free_until_(free_until) {}

  bool mask(std::span<uint32_t> allowed) override {
    if (free_until_) return false;
    std::fill(allowed.begin(), allowed.end(), 0);
    state_->mask(allowed);
    for (const TokenId token : stop_tokens_) {
      if (state_->may_end()) allow(allowed, token);
    }
    return true;
  }

  bool accept(int32_t token) override {
    if (free_until_) {
      if (token == *free_until_) free_until_.reset();
      return true;
    }
    if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end())
      return false;
    state_->accept(token);
    return true;
  }

 private:
  std::shared_ptr<const TextGrammar> grammar_;
  std::unique_ptr<TextGrammar::State> state_;
  std::vector<TokenId> stop_tokens_;
  std::optional<TokenId> free_until_;
};

}  // namespace

std::unique_ptr<TokenConstraint> guard_harmony(std::shared_ptr<const HarmonyRules> rules) {
  return std::make_unique<HarmonyGuard>(std::move(rules));
}

std::unique_ptr<TokenConstraint> guard_plain(std::shared_ptr<const TextGrammar> grammar,
                                             std::vector<TokenId> stop_tokens,
                                             std::optional<TokenId> free_until) {
  return std::make_unique<PlainGuard>(std::move(grammar), std::move(stop_tokens), free_until);
}

}  // namespace mxgpt::server
