// What a text may be, as a constraint on tokens: a JSON schema, a regular expression, a grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/tokenizer/tokenizer.h"

namespace mxgpt::chat {

/// Compiled; immutable and shared.
class Grammar {
 public:
  /// One text in the making.
  class Matcher {
   public:
    virtual ~Matcher() = default;
    /// Sets the bits of the text tokens that may come next, bit t % 32 of word t / 32, and of no
    /// others.
    virtual void fill_mask(std::span<uint32_t> allowed) = 0;
    /// Whether the text may end here.
    virtual bool is_complete() const = 0;
    /// The text goes on with a token that was allowed.
    virtual void accept(text::TokenId token) = 0;
  };

  virtual ~Grammar() = default;
  virtual std::unique_ptr<Matcher> make_matcher() const = 0;
};

}  // namespace mxgpt::chat
