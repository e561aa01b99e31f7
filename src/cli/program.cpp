#include "cli/program.h"

#include <fmt/format.h>

#include <exception>
#include <new>

#include "base/error.h"
#include "base/escape.h"
#include "base/log.h"
#include "cli/options.h"

namespace mxgpt::cli {

int run_program(int argc, char** argv, std::span<const Command> commands) {
  log::use_standard_error();
  try {
    return run_command_line(argc, argv, commands);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "mxgpt: out of memory; free some memory, or use a smaller model or context\n");
  } catch (const Error& e) {
    const std::string where = e.where().empty() ? "" : option_of_field(e.where()) + ": ";
    fmt::print(stderr, "mxgpt: {}\n", escape_for_terminal(where + e.problem_and_fix(), 4000));
  } catch (const std::exception& e) {
    fmt::print(stderr, "mxgpt: {}\n", escape_for_terminal(e.what(), 4000));
  }
  return kFailed;
}

}  // namespace mxgpt::cli
