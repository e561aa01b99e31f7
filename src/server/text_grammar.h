// What a text may be, as a constraint on tokens: a JSON schema, a regular expression, a grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/tokenizer/tokenizer.h"

namespace mxgpt::server {

/// Compiled; immutable and shared.
class TextGrammar {
 public:
  /// One text in the making.
  class State {
   public:
    virtual ~State() = default;
    /// Sets the bits of the text tokens that may come next, bit t % 32 of word t / 32, and of no
    /// others.
    virtual void mask(std::span<uint32_t> allowed) = 0;
    /// Whether the text may end here.
    virtual bool may_end() const = 0;
    /// The text goes on with a token that was allowed.
    virtual void accept(TokenId token) = 0;
  };

  virtual ~TextGrammar() = default;
  virtual std::unique_ptr<State> begin() const = 0;
};

}  // namespace mxgpt::server
