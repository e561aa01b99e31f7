#include "base/escape.h"

#include <gtest/gtest.h>

namespace mxgpt {
namespace {

TEST(Printable, KeepsText) {
  EXPECT_EQ(escape_for_terminal("plain \\ text"), "plain \\ text");
  EXPECT_EQ(escape_for_terminal("grüße, 日本語, 🙂"), "grüße, 日本語, 🙂");
}

TEST(Printable, EscapesWhatDrivesATerminal) {
  EXPECT_EQ(escape_for_terminal("a\x1b[2Jb\r\n\t\x7f"), "a\\x1b[2Jb\\x0d\\n\\t\\x7f");
  EXPECT_EQ(escape_for_terminal(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(escape_for_terminal("\xc2\x9b"), "\\u009b");      // the C1 form of ESC [
  EXPECT_EQ(escape_for_terminal("\xe2\x80\xae"), "\\u202e");  // right-to-left override
  EXPECT_EQ(escape_for_terminal("\xe2\x80\x8b"), "\\u200b");  // zero-width space
}

TEST(Printable, EscapesBytesThatAreNoUtf8) {
  EXPECT_EQ(escape_for_terminal("\xff"), "\\xff");
  EXPECT_EQ(escape_for_terminal("\xc0\x80"), "\\xc0\\x80");                    // overlong
  EXPECT_EQ(escape_for_terminal("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(escape_for_terminal("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(escape_for_terminal("a\xe2\x82"), "a\\xe2\\x82");                  // cut off
}

TEST(Printable, CutsAtWholeCharacters) {
  EXPECT_EQ(escape_for_terminal("äöü", 2), "äö…");
  EXPECT_EQ(escape_for_terminal("äöü", 3), "äöü");
}

TEST(Printable, IsIdempotent) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::string once = escape_for_terminal(all, 10000);
  EXPECT_EQ(escape_for_terminal(once, 10000), once);
}

TEST(SizeText, PicksTheUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(999949), "999.9 kB");
  EXPECT_EQ(format_bytes(999950), "1.0 MB");
  EXPECT_EQ(format_bytes(12820000000), "12.82 GB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "18.45 EB");
}

}  // namespace
}  // namespace mxgpt
