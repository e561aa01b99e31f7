// A compiled grammar: the set of texts that a JSON schema, regular expression or GBNF allows, as a
// constraint on tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/tokenizer/tokenizer.h"

namespace mxgpt::chat {

/// Immutable and shared.
class Grammar {
 public:
  /// Follows one text. Used by one thread at a time.
  class Matcher {
   public:
    virtual ~Matcher() = default;

    /// True if the next mask is known. Does a bounded amount of work; beyond that the mask is
    /// computed on another thread.
    virtual bool prepare() { return true; }
    /// Whether that thread is still computing.
    virtual bool is_pending() const { return false; }
    /// Sets the bits of the text tokens that may come next, bit t % 32 of word t / 32, and no
    /// others. Waits unless prepare() has returned true. Throws Error for a text that the grammar
    /// does not allow, engine::ConstraintTimeout if the mask exceeds its work budget.
    virtual void fill_mask(std::span<uint32_t> allowed) = 0;
    /// Whether the text may end here. Waits and throws as fill_mask() does.
    virtual bool is_complete() = 0;
    /// Appends a token, which the last mask allowed.
    virtual void accept(text::TokenId token) = 0;
  };

  virtual ~Grammar() = default;
  virtual std::unique_ptr<Matcher> make_matcher() const = 0;
};

}  // namespace mxgpt::chat
