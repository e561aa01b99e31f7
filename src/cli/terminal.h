// Terminal input and output, and signals.
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

/// Escape sequences for dim text; empty if standard output is not a terminal or NO_COLOR is set.
std::string_view dim_on();
std::string_view dim_off();

/// Writes model output to standard output and flushes. On a terminal, drops control characters
/// except newline and tab, so that a model cannot control the terminal.
void print_text(std::string_view text);

/// While it exists, the given signals set a flag instead of ending the program. At most one exists
/// at a time.
class SignalGuard {
 public:
  explicit SignalGuard(std::initializer_list<int> signals = {SIGINT});
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();
  static bool interrupted() { return signal() != 0; }
  static int signal();  ///< the signal received; 0: none
  static void clear();

 private:
  std::vector<std::pair<int, struct sigaction>> previous_actions_;
};

/// Reads a line from standard input, with a prompt on a terminal. Returns false at the end of
/// input. Ctrl-C gives an empty line.
bool read_line(std::string_view prompt, std::string& line);

}  // namespace mxgpt::cli
