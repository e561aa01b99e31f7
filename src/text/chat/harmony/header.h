// The header of a Harmony message, what stands between <|start|> and <|message|>: which words may
// stand in it, and reading it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// Whether a name, recipient or channel can stand in a header: 1 to kMaxHeaderWord bytes, no blanks
/// or control characters, no "<|", and no "to=" in front, which would make it a recipient.
inline constexpr size_t kMaxHeaderWordBytes = 256;
bool is_header_word(std::string_view word);
/// The same of a tool's name. It stands where other messages have their role, so "system" or
/// "user:eve" would forge one.
bool is_tool_name(std::string_view name);
/// The same of a content type, which may begin with kConstrainMarker.
bool is_content_type(std::string_view type);

/// The text of a header cut at the control tokens inside it. The markers are kept apart from the
/// text, so a marker spelled out by ordinary tokens is no marker.
class HeaderText {
 public:
  enum class Marker { kNone, kChannel, kConstrain };
  struct Segment {
    Marker marker;  ///< what opened it; the first segment has kNone, and is always there
    std::string text;
  };

  void append(std::string_view text);
  void append(Marker marker);
  const std::vector<Segment>& segments() const { return segments_; }
  /// Length of the header as text, markers included.
  size_t size() const { return size_; }

 private:
  std::vector<Segment> segments_{{Marker::kNone, {}}};
  size_t size_ = 0;
};

/// Reads a header that `<|message|>` has ended into a message without contents, as openai-harmony
/// does. `implied` is the role where the header does not name one: after the prompt's
/// `<|start|>assistant`. Throws Error saying what is wrong.
Message read_header(const HeaderText& header, std::optional<Role> implied_role);

/// Never throws: what read_header refuses is read as well as it can be, see HarmonyParser for the
/// rules.
Message read_header_tolerant(const HeaderText& header, std::optional<Role> implied_role);

/// Reads a header that `<|message|>` never ended: role, recipients, a known channel and content
/// types are taken out, all other text becomes the message's one content.
Message read_unterminated_header(const HeaderText& header, std::optional<Role> implied_role);

}  // namespace mxgpt::harmony
