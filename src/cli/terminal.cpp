#include "cli/terminal.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace mxgpt::cli {

namespace {
volatile std::sig_atomic_t received_signal = 0;  // 0: none

bool styled() {
  return stdout_is_terminal() && std::getenv("NO_COLOR") == nullptr;
}
}  // namespace

bool stdin_is_terminal() {
  return ::isatty(STDIN_FILENO);
}
bool stdout_is_terminal() {
  return ::isatty(STDOUT_FILENO);
}

std::string_view dim_on() {
  return styled() ? "\x1b[2m" : "";
}
std::string_view dim_off() {
  return styled() ? "\x1b[22m" : "";
}

void print_text(std::string_view text) {
  if (stdout_is_terminal()) {
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const bool c0 = byte < 0x20 ? byte != '\n' && byte != '\t' : byte == 0x7f;
      // C1 controls, U+0080 to U+009F, take two bytes in UTF-8.
      const bool c1 =
          byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
      if (c1) ++i;
      if (!c0 && !c1) std::fputc(text[i], stdout);
    }
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  std::fflush(stdout);
}

SignalGuard::SignalGuard(std::initializer_list<int> signals) {
  received_signal = 0;
  struct sigaction action {};
  action.sa_handler = [](int signal) { received_signal = signal; };
  for (const int signal : signals) {
    struct sigaction previous {};
    ::sigaction(signal, nullptr, &previous);
    if (previous.sa_handler == SIG_IGN) continue;  // ignored on purpose, as under nohup
    ::sigaction(signal, &action, nullptr);
    previous_actions_.emplace_back(signal, previous);
  }
}

SignalGuard::~SignalGuard() {
  for (const auto& [signal, previous] : previous_actions_) ::sigaction(signal, &previous, nullptr);
}

int SignalGuard::signal() {
  return received_signal;
}
void SignalGuard::clear() {
  received_signal = 0;
}

bool read_line(std::string_view prompt, std::string& line) {
  SignalGuard::clear();
  if (stdin_is_terminal()) {
    fmt::print("{}", prompt);
    std::fflush(stdout);
  }
  line.clear();
  bool more = true, complete_line = false;
  while (more && !complete_line && !SignalGuard::interrupted()) {
    // A signal may arrive between the check and poll(), or on another thread: poll briefly and
    // check again.
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&input, 1, 100) <= 0) continue;
    char c;
    more = ::read(STDIN_FILENO, &c, 1) == 1;
    complete_line = more && c == '\n';
    if (more && !complete_line) line += c;
  }
  if (SignalGuard::interrupted()) {
    fmt::print("\n");
    line.clear();
    return true;
  }
  return complete_line || !line.empty();
}

}  // namespace mxgpt::cli
