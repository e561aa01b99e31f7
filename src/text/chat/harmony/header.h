// The header of a Harmony message, between <|start|> and <|message|>: validation of its fields, and
// parsing.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// Whether a name, recipient or channel is valid in a header: 1 to kMaxHeaderWordBytes bytes,
/// without whitespace, control characters, "<|", or a leading "to=", which would make it a
/// recipient.
inline constexpr size_t kMaxHeaderWordBytes = 256;
bool is_header_word(std::string_view word);
/// The same for a tool's name. It takes the position of the role, so "system" or "user:eve" is
/// rejected.
bool is_tool_name(std::string_view name);
/// The same for a content type, which may begin with kConstrainMarker.
bool is_content_type(std::string_view type);

/// The text of a header, split at its control tokens. A marker spelled out by ordinary tokens stays
/// text.
class HeaderText {
 public:
  enum class Marker { kNone, kChannel, kConstrain };
  struct Segment {
    Marker marker;  ///< precedes the text; kNone for the first segment, which always exists
    std::string text;
  };

  void append(std::string_view text);
  void append(Marker marker);
  const std::vector<Segment>& segments() const { return segments_; }
  /// Length in bytes, including the markers as text.
  size_t size() const { return size_; }

 private:
  std::vector<Segment> segments_{{Marker::kNone, {}}};
  size_t size_ = 0;
};

/// Parses a header ended by `<|message|>` into a message without contents, as openai-harmony does.
/// `implied_role` applies if the header has no role, as after the prompt's `<|start|>assistant`.
/// Throws Error for a malformed header.
Message read_header(const HeaderText& header, std::optional<Role> implied_role);

/// As read_header, but never throws: malformed headers are read by the rules of HarmonyParser.
Message read_header_tolerant(const HeaderText& header, std::optional<Role> implied_role);

/// Parses a header without `<|message|>`: extracts role, recipient, a known channel and content
/// type; all other text becomes the content of the message.
Message read_unterminated_header(const HeaderText& header, std::optional<Role> implied_role);

}  // namespace mxgpt::harmony
