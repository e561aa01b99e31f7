#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <new>

#include "base/error.h"
#include "base/escape.h"
#include "cli/command.h"
#include "cli/options.h"

int main(int argc, char** argv) {
  using namespace mxgpt;
  // Log to standard error: standard output carries results.
  spdlog::set_default_logger(spdlog::stderr_color_mt("mxgpt"));
  try {
    return cli::run_command_line(argc, argv, cli::kCommands);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "mxgpt: out of memory; free some memory, or use a smaller model or context\n");
  } catch (const Error& e) {
    const std::string where = e.where().empty() ? "" : cli::option_of_field(e.where()) + ": ";
    fmt::print(stderr, "mxgpt: {}\n", escape_for_terminal(where + e.problem_and_fix(), 4000));
  } catch (const std::exception& e) {
    fmt::print(stderr, "mxgpt: {}\n", escape_for_terminal(e.what(), 4000));
  }
  return cli::kFailed;
}
