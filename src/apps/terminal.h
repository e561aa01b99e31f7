// What a command needs to know about the person in front of it.
#pragma once

#include <string>
#include <string_view>

namespace mxgpt::apps {

bool stdin_is_terminal();
bool stdout_is_terminal();

/// Escape sequences for dim text, or nothing where standard output is no terminal or NO_COLOR is
/// set.
std::string_view dim_on();
std::string_view dim_off();

/// Text of a model, written and flushed to standard output. On a terminal, control characters other
/// than newline and tab are left out, so that a model cannot drive the terminal.
void print_text(std::string_view text);

/// While it lives, Ctrl-C sets a flag instead of ending the program. One at a time.
class CtrlC {
 public:
  CtrlC();
  ~CtrlC();
  static bool pressed();
  static void clear();
};

/// Reads a line from standard input, shown after `prompt` if that is a terminal. False at the end
/// of input. Ctrl-C gives an empty line.
bool read_line(std::string_view prompt, std::string& line);

}  // namespace mxgpt::apps
