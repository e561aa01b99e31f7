// What a command needs to know about the person in front of it.
#pragma once

#include <csignal>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mxgpt::cli {

bool stdin_is_terminal();
bool stdout_is_terminal();

/// Escape sequences for dim text, or nothing where standard output is no terminal or NO_COLOR is
/// set.
std::string_view dim_on();
std::string_view dim_off();

/// Text of a model, written and flushed to standard output. On a terminal, control characters other
/// than newline and tab are left out, so that a model cannot drive the terminal.
void print_text(std::string_view text);

/// While it lives, Ctrl-C, or any of the signals given, sets a flag instead of ending the program.
/// One at a time.
class SignalGuard {
 public:
  explicit SignalGuard(std::initializer_list<int> signals = {SIGINT});
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();
  static bool interrupted() { return signal() != 0; }
  static int signal();  ///< that came; 0 if none did
  static void clear();

 private:
  std::vector<std::pair<int, struct sigaction>> previous_actions_;
};

/// Reads a line from standard input, shown after `prompt` if that is a terminal. False at the end
/// of input. Ctrl-C gives an empty line.
bool read_line(std::string_view prompt, std::string& line);

}  // namespace mxgpt::cli
