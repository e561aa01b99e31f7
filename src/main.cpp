#include <fmt/format.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>

#include "apps/command.h"
#include "base/error.h"
#include "base/version.h"

namespace {

/// Threads that wait for each other spin; on a busy machine, where one of them may be off its core, they should
/// sleep instead and soon. libgomp reads how soon from its environment before main begins, so the program sets
/// that and starts itself anew, unless the user has said otherwise. Measured with two other loads on two cores:
/// steps are up to twenty times as fast; on an idle machine there is no difference.
void limit_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("GOMP_SPINCOUNT", "1000", 1);
  ::execv("/proc/self/exe", argv);  // returns only if it failed, and then spinning costs only time
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mxgpt;
  limit_spinning(argv);
  CLI::App app{"mxgpt runs gpt-oss and other GPTs from MXFP4 and GGUF weights.", "mxgpt"};
  app.set_version_flag("--version", std::string("mxgpt ") + version());
  app.require_subcommand(1);

  std::function<int()> chosen;
  for (const apps::Command& entry : apps::kCommands) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    command->callback([run = entry.declare(*command), &chosen] { chosen = run; });
  }
  try {
    app.parse(argc, argv);
    return chosen();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? apps::kOk : apps::kUsage;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mxgpt: out of memory; free some, or take a smaller model or context\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "mxgpt: {}\n", e.what());
  }
  return apps::kFailed;
}
