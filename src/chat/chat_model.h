// The properties of a model that the chat layer uses: tokenizer, chat format and stop tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "chat/constraints/grammar_compiler.h"
#include "text/chat/harmony/encoding.h"
#include "text/chat/known_chat_templates.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::chat {

/// Immutable, except for the grammar compiler, which is thread-safe.
class ChatModel {
 public:
  struct Options {
    std::string name;  ///< of the model, for errors: its path
    std::shared_ptr<const text::Tokenizer> tokenizer;
    text::ChatTemplate chat_template;
    std::vector<int32_t> stop_tokens;  ///< of the model
    int64_t vocabulary = 0;            ///< of the model; at least the tokenizer's
    std::string format;                ///< one of text::chat_format_names(); empty: the model's own
    std::string date;                  ///< today as "2026-11-23"
  };

  /// Throws Error if the tokenizer lacks the control tokens of the chat format. A model without a
  /// known format is accepted: it only completes text.
  explicit ChatModel(Options options);

  const std::string& name() const { return options_.name; }
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return options_.tokenizer; }
  /// At most one of these is set.
  const std::shared_ptr<const harmony::HarmonyEncoding>& harmony() const { return harmony_; }
  const std::optional<text::ChatTemplateSpec>& chat_template() const { return template_; }
  /// Why the chat format is unknown, as the fault of an Error; nullopt if it is known.
  std::optional<std::string> chat_format_fault() const;
  /// Tokens that end an answer: the model's and the chat format's.
  const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }
  int64_t vocabulary() const { return options_.vocabulary; }
  /// True if the vocabulary uses the byte-level BPE alphabet.
  bool byte_level() const { return byte_level_; }
  /// The grammar compiler, created on first use.
  GrammarCompiler& grammars() const;

 private:
  Options options_;
  std::shared_ptr<const harmony::HarmonyEncoding> harmony_;
  std::optional<text::ChatTemplateSpec> template_;
  std::vector<int32_t> stop_tokens_;
  bool byte_level_ = false;
  mutable std::once_flag grammars_once_;
  mutable std::unique_ptr<GrammarCompiler> grammars_;
};

/// Today as "2026-11-23", in local time.
std::string today();

}  // namespace mxgpt::chat
